"""Visual question answering on the fused words (GLIPv2, Appendix D.2)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import CheckpointError, ConfigError
from ...language.answers import read_answers
from ..precision import at_least_float32, without_autocast
from ..processes import mean_over_processes
from .task_head import AnsweringHead, TrainingPass

__all__ = ["OTHER_ANSWERS", "VqaHead"]

BEST = 5  # answers that are given to a question
# What can be done with weights for another list.
OTHER_ANSWERS = (
    "give model.vqa_head.answers the list that the weights were trained with, in its order; or, to "
    "train the head anew for this one, leave it out of the file by `glip convert FILE "
    "NEW.safetensors --config-file CONFIG_OF_FILE --without vqa_head`"
)


class VqaHead(AnsweringHead):
    """Answers a question with one of a list of answers.

    Attention pooling of the fused words (a linear layer, a softmax over the words, their weighted
    sum), a two-layer MLP with GELU, and a linear layer to the answers.

    Args:
        text_channels: L.
        answers: the list, 3,129 of them for VQAv2, or the json file that holds it.
        hidden_channels: of the MLP; None: L.
        weight: factor of the loss.
        ground_answer: see `AnsweringHead`; the predictor then ends each question with `MASK`.

    Attributes:
        answers_digest: of the list and its order, a number that is kept with the weights, since
            these answer nonsense with another list of the same length.

    Raises:
        ConfigError: no answers, or one that is listed twice.
        DataError: there is no such file, or it holds no such list (`read_answers`).
        CheckpointError (when weights are loaded): they were trained with another list.
    """

    answers_digest: torch.Tensor

    def __init__(
        self,
        *,
        text_channels: int,
        answers: Sequence[str] | str,
        hidden_channels: int | None = None,
        weight: float = 1.0,
        ground_answer: bool = False,
    ):
        super().__init__()
        self.ground_answer = ground_answer
        self.answers = read_answers(answers) if isinstance(answers, str) else list(answers)
        self.index = {answer: i for i, answer in enumerate(self.answers)}
        if not self.answers or len(self.index) < len(self.answers):
            twice = sorted({a for a in self.answers if self.answers.count(a) > 1})
            raise ConfigError(
                f"model.vqa_head.answers has {len(self.answers)} entries"
                + (f", of them {twice[:3]} more than once" if twice else "")
                + ": give each possible answer once"
            )
        self.register_buffer("answers_digest", torch.tensor(_digest(self.answers)))
        self.weight = weight
        hidden = hidden_channels or text_channels
        self.pooling = nn.Linear(text_channels, 1)
        self.mlp = nn.Sequential(
            nn.Linear(text_channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.classifier = nn.Linear(hidden, len(self.answers))

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any
    ) -> None:
        """Called by `load_state_dict`, of which ours and Detectron2's checkpointers are users."""
        key = f"{prefix}answers_digest"
        if key not in state_dict:
            state_dict[key] = self.answers_digest  # so that it is not called missing
            if f"{prefix}classifier.weight" in state_dict:
                text = "the weights of %s do not tell their list of answers: it is not compared"
                logging.getLogger(__name__).info(text, prefix.removesuffix("."))
        elif int(state_dict[key]) != _digest(self.answers):
            raise CheckpointError(
                f"the weights were trained with another list of {len(self.answers)} answers, or "
                f"with these in another order: {OTHER_ANSWERS}"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """`loss_vqa`, of the inputs whose prompt is a question."""
        asked = [i for i, prompt in enumerate(run.batch.prompts) if prompt.kind == "question"]
        answers = [run.batch.inputs[i]["answers"] for i in asked]
        return {"loss_vqa": self(run.words[asked], run.text.mask[asked], answers)}

    def forward(
        self, words: torch.Tensor, mask: torch.Tensor, answers: Sequence[Mapping[str, float]]
    ) -> torch.Tensor:
        """Weighted binary cross-entropy, summed over the answers, averaged over the questions of
        all processes.

        Args:
            words, mask: see `logits`.
            answers: of each question its answers with their soft scores; what is not in the list
                counts for nothing.

        Returns:
            A scalar; 0 with a gradient for every parameter where there is no question.
        """
        logits = self.logits(words, mask)
        gold = torch.zeros_like(logits)
        for row, scores in zip(gold, answers):
            for answer, score in scores.items():
                if answer in self.index:
                    row[self.index[answer]] = score
        loss = F.binary_cross_entropy_with_logits(logits, gold, reduction="sum")
        # Not at least 1: of one question in N processes the mean is 1 / N.
        count = mean_over_processes(loss.new_tensor(float(len(gold)))).clamp(min=1e-6)
        return self.weight * loss / count

    def answer(self, words: torch.Tensor, mask: torch.Tensor) -> list[list[tuple[str, float]]]:
        """See `AnsweringHead.answer`; the best five. The probability of each is its own, as it is
        trained: they do not sum to 1."""
        probabilities = self.logits(words, mask).sigmoid()
        best = probabilities.topk(min(BEST, len(self.answers)), dim=1)
        return [
            [(self.answers[i], p) for i, p in zip(indices, values)]
            for indices, values in zip(best.indices.tolist(), best.values.tolist())
        ]

    def logits(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Scores of the answers before the sigmoid, in float32 at least.

        Args:
            words: (Q, T, L), fused. mask: (Q, T), True for real tokens.

        Returns:
            (Q, A) for A answers.
        """
        with without_autocast(words.device.type):
            words = words.to(self.classifier.weight.dtype)
            scores = self.pooling(words)[..., 0].masked_fill(~mask, float("-inf"))
            pooled = (scores.softmax(dim=1)[:, None] @ words)[:, 0]
            return at_least_float32(self.classifier(self.mlp(pooled)))


def _digest(answers: Sequence[str]) -> int:
    """A number of 64 bits that depends on the answers and their order."""
    digest = hashlib.sha256(json.dumps(list(answers)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
