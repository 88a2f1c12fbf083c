"""Inter-image region-word contrastive loss of GLIPv2 (Section 3.2, Eq. 4-5; Appendix C)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError
from .contrast_targets import ContrastTargets, batch_targets
from .heads.task_head import TaskHead, TrainingPass
from .precision import without_autocast
from .processes import gather_rows, join_rows
from .text import TextFeatures

__all__ = ["ContrastTargets", "RegionWordContrast", "contrast_of", "sample_positions"]

# In `word_like` a region differs from its word by as much as words do from each other.
WORD_NOISE = 1.0


class RegionWordContrast(TaskHead):
    """Regions of a batch against the words of all its prompts, before vision and language meet.

    The similarity of a region (a position of the FPN's output) and a word (a token of the language
    backbone's output) is the cosine of their learned projections, divided by a learned temperature.
    The loss is the cross-entropy over words for each region plus the one over regions for each word
    (Eq. 5). The targets (Eq. 4):

    - within an image, a region is positive for the tokens of its box's phrase;
    - across images it is positive for the tokens of the phrases of *detection* prompts that have
      its name (`clean_name`, any case). Class ids play no part, and nothing is propagated to
      sentences. Nor is anything within the image: of two phrases of one name there, the
      annotation says which is meant;
    - the targets of a region, or of a word, sum to 1. Those without any add no loss and stay as
      negatives; each direction is the mean over those that have some;
    - all regions and words of all processes take part. Of the words, padding and those that are
      masked for masked language modeling take no part at all.

    Regions are the matcher's positives and a random sample of the other positions; the padding of
    the batch has none, or the loss would depend on which images share a process. As in official
    GLIP's fragment of this loss: at most 100 positives an image, 64 channels, Xavier projections.
    Unlike there, as the paper says: features before fusion for the words too, gradients flow to the
    other processes' regions and words, both directions are added, not averaged, and names decide,
    not class ids. Unlike there also, since an untrained model learns little from a temperature of
    1: it starts at CLIP's 0.07, and its inverse is bounded by CLIP's 100.

    With R regions and W words of all P processes, a process holds R * W / P similarities and as
    many targets of each direction, and computes R * W * embed_channels / P products. At 8 images of
    200 regions and 60 words a matrix is 1600 x 480, 3 MB.

    Args:
        channels, text_channels: C and L.
        embed_channels: D of the common space.
        max_positives: positives per image.
        max_regions: regions per image, positives included.
        temperature: at the start. min_temperature: it never falls below.
        weight: factor of the loss.
    """

    def __init__(
        self,
        *,
        channels: int,
        text_channels: int,
        embed_channels: int = 64,
        max_positives: int = 100,
        max_regions: int = 200,
        temperature: float = 0.07,
        min_temperature: float = 0.01,
        weight: float = 1.0,
    ):
        super().__init__()
        if not 1 <= max_positives <= max_regions:
            raise ValueError(
                f"max_positives must lie between 1 and max_regions ({max_regions}), got "
                f"{max_positives}"
            )
        if not 0 < min_temperature <= temperature:
            raise ValueError(
                f"temperature must be at least min_temperature ({min_temperature}), and that "
                f"positive, got {temperature}"
            )
        self.max_positives = max_positives
        self.max_regions = max_regions
        self.min_log_temperature = math.log(min_temperature)
        self.weight = weight
        self.region_projection = nn.Linear(channels, embed_channels)
        self.word_projection = nn.Linear(text_channels, embed_channels)
        self.log_temperature = nn.Parameter(torch.tensor([math.log(temperature)]))
        for projection in (self.region_projection, self.word_projection):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """`loss_contrast`, of the features before fusion."""
        return {"loss_contrast": self(run.features, run.text, ContrastTargets.of(run))}

    def forward(
        self, features: Sequence[torch.Tensor], text: TextFeatures, targets: ContrastTargets
    ) -> torch.Tensor:
        """The weighted loss, a scalar; its mean over the processes is that of one with all images.

        Without any positive it is 0, and still part of the graph.

        Args:
            features: FPN's levels (B, C, h, w), N positions in all, fine to coarse, row-major.
            text: the prompts' features before fusion, T tokens.

        Raises:
            ValueError: `targets.matches` are not of these levels.
        """
        num_positions = sum(level.shape[2] * level.shape[3] for level in features)
        if targets.matches.shape[1] != num_positions:
            raise ValueError(
                f"matches are of {targets.matches.shape[1]} positions, the pyramid has "
                f"{num_positions}: match the anchors of the same levels"
            )
        images, positions = sample_positions(
            targets.matches, targets.inside, self.max_positives, self.max_regions
        )
        images, positions, regions = _take(features, images, positions)
        with without_autocast(regions.device.type):
            # Of all micro-batches of the process, each of which computes the process's loss.
            regions = join_rows(self._embed(self.region_projection, regions))
            words = join_rows(self._embed(self.word_projection, text.hidden[targets.words]))
            row_targets, column_targets = batch_targets(targets, images, positions)
            # Each process takes its own rows and its own columns of the matrix of all processes.
            # Its share of the sums is divided by the mean count: the mean of the shares over the
            # processes, which is what DDP makes of their gradients, is the whole loss.
            # The temperature itself is bounded, as CLIP's: a clamp in the graph would have no
            # gradient beyond the bound and so never come back.
            with torch.no_grad():
                self.log_temperature.clamp_(min=self.min_log_temperature)
            scale = self.log_temperature.neg().exp()
            all_regions, all_words = torch.cat(gather_rows(regions)), torch.cat(gather_rows(words))
            loss = _cross_entropy(regions @ all_words.T * scale, row_targets)
            loss = loss + _cross_entropy(words @ all_regions.T * scale, column_targets)
        return loss * self.weight

    def embed_regions(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Levels (B, C, h, w) -> (B, N, D) of unit length."""
        flat = torch.cat([level.flatten(2) for level in features], dim=2).transpose(1, 2)
        with without_autocast(flat.device.type):
            return self._embed(self.region_projection, flat)

    def embed_words(self, words: torch.Tensor) -> torch.Tensor:
        """`TextFeatures.hidden`, (B, T, L) -> (B, T, D) of unit length."""
        with without_autocast(words.device.type):
            return self._embed(self.word_projection, words)

    def word_like(self, region: torch.Tensor, known_words: torch.Tensor) -> torch.Tensor:
        """The word (L,) that projects to where a region is: the inverse of `embed_words`.

        Many do; of these the one that is likeliest where words are normally distributed, with the
        mean and covariance of `known_words`: their linear least-squares estimate from projections.

        Args:
            region: of `embed_regions`, or a mean of such, (D,).
            known_words: `hidden` of some words, (n, L); the more unlike, the better.
        """
        words = known_words.double()
        weight, bias = (p.detach().double() for p in self.word_projection.parameters())
        projected = words @ weight.T + bias
        mean = projected.mean(dim=0)
        target = F.normalize(region.double(), dim=-1) * projected.norm(dim=1).mean()
        centered = projected - mean
        spread = centered.T @ centered / len(words)
        noise = WORD_NOISE * spread.diagonal().mean() * torch.eye(len(spread)).to(spread)
        gain = torch.linalg.solve(spread + noise, (target - mean))
        offset = (words - words.mean(dim=0)).T @ (centered @ gain) / len(words)
        return (words.mean(dim=0) + offset).to(known_words.dtype)

    def _embed(self, projection: nn.Linear, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(projection(features.to(projection.weight.dtype)), dim=-1)


def contrast_of(model: nn.Module, what: str) -> RegionWordContrast:
    """The contrast of a model.

    Args:
        what: that needs it, the beginning of the message.

    Raises:
        ConfigError: it has none; that of an export is made for shortlists alone.
    """
    contrast = getattr(model, "contrast", None)
    if contrast is not None and not isinstance(contrast, RegionWordContrast):
        raise ConfigError(f"{what} with weights, and not with an export: give those it was made of")
    if contrast is None:
        raise ConfigError(
            f"{what} with the projections of the contrastive loss, and this model has none: take a "
            "config with model.contrast, and weights that were trained with it"
        )
    return contrast


@torch.no_grad()
def sample_positions(
    matches: torch.Tensor, inside: torch.Tensor, max_positives: int, max_regions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random sample of the positions of each image, positives first; all where they are few.

    Args:
        matches: (B, N) int64, -1 for positions without a box.
        inside: (B, N) bool, False for positions of no image, which are never taken.

    Returns:
        The images and positions of R regions, both (R,) int64.
    """
    images, positions = [], []
    for i, (row, own) in enumerate(zip(matches, inside)):
        positive, other = ((matched & own).nonzero()[:, 0] for matched in (row >= 0, row < 0))
        positive = _sample(positive, max_positives)
        chosen = torch.cat((positive, _sample(other, max_regions - len(positive))))
        positions.append(chosen)
        images.append(torch.full_like(chosen, i))
    return torch.cat(images), torch.cat(positions)


def _sample(items: torch.Tensor, count: int) -> torch.Tensor:
    return items[torch.randperm(len(items), device=items.device)[:count]]


def _take(
    features: Sequence[torch.Tensor], images: torch.Tensor, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (R, C) of the regions, with their images and positions in the same new order.

    The pyramid is never copied as a whole, as it would be by flattening its levels into one.
    """
    taken, order, start = [], [], 0
    for level in features:
        height, width = level.shape[-2:]
        inside = (positions >= start) & (positions < start + height * width)
        rows = inside.nonzero()[:, 0]
        position = positions[rows] - start
        y, x = position.div(width, rounding_mode="floor"), position % width
        taken.append(level[images[rows], :, y, x])
        order.append(rows)
        start += height * width
    ordered = torch.cat(order)
    return images[ordered], positions[ordered], torch.cat(taken)


def _cross_entropy(logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Sum over the rows with positives, (n, m) both, divided by their mean number per process."""
    with_positives = positive.any(dim=1)
    target = positive[with_positives].to(logits.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    total = F.cross_entropy(logits[with_positives], target, reduction="sum")
    counts = torch.cat(gather_rows(target.new_tensor([len(target)])))
    # The smallest divisor keeps a batch without positives at 0 instead of 0 / 0.
    return total / counts.mean().clamp(min=1e-6)
