"""Is a phrase in the image at all? A probability for each phrase (SAM 3's presence, for GLIP)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ...language.positive_map import ClassMap
from ..precision import at_least_float32, without_autocast
from ..processes import mean_over_processes
from .task_head import TaskHead, TrainingPass

__all__ = ["PresenceHead"]


class PresenceHead(TaskHead):
    """Tells of each phrase of a prompt whether it has a box in the image.

    A two-layer MLP on the mean of the phrase's fused words and on the logit of its best region.
    SAM 3 (Carion et al. 2025) has a learned token for this, because it asks one phrase at a time;
    GLIP asks many, and after fusion the words of each know the image.

    At inference the probability is a factor of the class score: a box is as likely to be "a cat" as
    there is a cat in the image, times as likely as the box is one if so.

    Args:
        text_channels: L.
        hidden_channels: of the MLP.
        weight: factor of the loss.
        weighs_boxes: False leaves the scores of the boxes as they are without this head.
    """

    def __init__(
        self,
        *,
        text_channels: int,
        hidden_channels: int = 128,
        weight: float = 1.0,
        weighs_boxes: bool = True,
    ):
        super().__init__()
        self.weight = weight
        self.weighs_boxes = weighs_boxes
        self.norm = nn.LayerNorm(text_channels)
        self.hidden = nn.Linear(text_channels + 1, hidden_channels)
        self.score = nn.Linear(hidden_channels, 1)

    def losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """`loss_presence`, binary cross-entropy averaged over the phrases of all processes.

        Of detection prompts alone: the names that are not in the image are GLIP's own negatives,
        while a caption names what is there, so that nothing of it is absent. A phrase with a masked
        word (`mlm_head`) does not count: only words that are in the image are masked.
        """
        batch = run.batch
        rows = [i for i, p in enumerate(batch.prompts) if p.kind == "detection"]
        rows = [i for i in rows if batch.grounded[i]]
        maps = [batch.tokens.positive_maps[i] for i in rows]
        logits = self(run.words[rows], run.output.logits[rows], maps)
        present, counted = torch.zeros_like(logits), torch.ones_like(logits)
        sizes = [len(phrases) for phrases in maps]
        for i, phrases, told, counts in zip(
            rows, maps, present.split(sizes), counted.split(sizes), strict=True
        ):
            told[batch.gt_phrases[i]] = 1
            counts[(phrases & batch.withheld[i]).any(dim=1)] = 0
        loss = F.binary_cross_entropy_with_logits(logits, present, counted, reduction="sum")
        # Not at least 1: of one phrase in N processes the mean is 1 / N.
        count = mean_over_processes(counted.sum()).clamp(min=1e-6)
        return {"loss_presence": self.weight * loss / count}

    def presence(
        self, words: torch.Tensor, logits: torch.Tensor, class_maps: Sequence[ClassMap]
    ) -> list[torch.Tensor]:
        """Of each of B prompts (K,), the probability that a phrase is in the image.

        Args: as `forward`; the phrases are those of the class maps.
        """
        phrases = [class_map.phrase_weights for class_map in class_maps]
        return list(self(words, logits, phrases).sigmoid().split([len(k) for k in phrases]))

    def forward(
        self, words: torch.Tensor, logits: torch.Tensor, phrases: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """The score of each phrase before the sigmoid, in float32 at least.

        Args:
            words: fused, (B, T, L).
            logits: of the grounding head, (B, N, T); no gradient flows into them, which have a loss
                of their own.
            phrases: of each prompt (K, T), the tokens of each phrase: bool, or the share of each.

        Returns:
            (K,) for all phrases of the B prompts, one prompt after the other.
        """
        dtype = self.score.weight.dtype
        means = [words.new_zeros(0, words.shape[-1], dtype=dtype)]
        best = [words.new_zeros(0, 1, dtype=dtype)]
        with without_autocast(words.device.type):
            for own_words, own_logits, tokens in zip(words, logits.detach(), phrases):
                weights = tokens.to(dtype) / tokens.sum(dim=1, keepdim=True)
                means.append(weights @ own_words.to(dtype))
                best.append((own_logits.to(dtype) @ weights.T).amax(dim=0)[:, None])
            known = torch.cat((self.norm(torch.cat(means)), torch.cat(best)), dim=1)
            return at_least_float32(self.score(F.gelu(self.hidden(known)))[:, 0])
