"""Which word is right for which region, within an image and across the images of a batch."""

import functools
import hashlib
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from detectron2.utils import comm

from ..language.class_names import bare_name
from ..language.prompt import Prompt
from .heads.task_head import TrainingPass
from .processes import gather_rows, of_micro_batches

__all__ = ["ContrastTargets", "batch_targets", "positions_inside"]


class ContrastTargets(NamedTuple):
    """Ground truth of B images with one prompt each.

    Attributes:
        prompts: of each image.
        positive_maps: per image (K, T) bool, the tokens of each phrase, also of masked ones.
        gt_phrases: per image (G,) int64, the phrase of each box in the image's prompt.
        matches: (B, N) int64, the box of each position of the pyramid, -1 for none.
        words: (B, T) bool, tokens that take part: real ones that are not masked, of images whose
            boxes are known.
        inside: (B, N) bool, positions of these images that are not padding of the batch
            (`positions_inside`).
    """

    prompts: Sequence[Prompt]
    positive_maps: list[torch.Tensor]
    gt_phrases: list[torch.Tensor]
    matches: torch.Tensor
    words: torch.Tensor
    inside: torch.Tensor

    @classmethod
    def of(cls, run: TrainingPass) -> "ContrastTargets":
        """Those of a training pass; withheld words take no part."""
        batch = run.batch
        inside = positions_inside(
            run.images.image_sizes,
            [(level.shape[-2], level.shape[-1]) for level in run.features],
            run.strides,
            run.text.hidden.device,
        )
        return cls(
            prompts=batch.prompts,
            positive_maps=batch.tokens.positive_maps,
            gt_phrases=batch.gt_phrases,
            matches=run.matches,
            words=batch.tokens.mask & ~batch.withheld & batch.grounded[:, None],
            inside=inside & batch.grounded[:, None],
        )

    def region_phrases(self, images: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(R,) index of the phrase of each region in its image's prompt, -1 for none.

        Args:
            images, positions: (R,) int64, where the regions lie in `matches`.
        """
        matches = self.matches[images, positions]
        phrases = torch.full_like(matches, -1)
        for i, of_boxes in enumerate(self.gt_phrases):
            rows = (images == i) & (matches >= 0)
            phrases[rows] = of_boxes[matches[rows]]
        return phrases


def positions_inside(
    image_sizes: Sequence[tuple[int, int]],
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device | None = None,
) -> torch.Tensor:
    """Which positions of a padded batch see something of their image.

    A position's cell is a square of `stride` pixels; one that the image reaches into at all is
    inside. So every level has one, and an image has the same number of them in any batch.

    Args:
        image_sizes: (height, width) of B images without padding.
        level_sizes, strides: (h, w) and stride of each level.

    Returns:
        (B, N) bool of the N positions of all levels, row by row.
    """
    sizes = torch.tensor(image_sizes, device=device)[:, :, None]
    levels = []
    for (height, width), stride in zip(level_sizes, strides, strict=True):
        rows = torch.arange(height, device=device) * stride < sizes[:, 0]
        columns = torch.arange(width, device=device) * stride < sizes[:, 1]
        levels.append((rows[:, :, None] & columns[:, None]).flatten(1))
    return torch.cat(levels, dim=1)


@torch.no_grad()
def batch_targets(
    targets: ContrastTargets, images: torch.Tensor, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares of one process of the positives of Eq. 4, in which all processes take part.

    Args:
        targets: of the images that the model has got: of one micro-batch, where there are several.
        images, positions: int64, their regions, as indices of `targets.matches`.

    Returns:
        Masks (r, W) of the r regions of this process (those of all its micro-batches, in order) and
        all W words, and (w, R) of its w words and all R regions. Words are those of `targets.words`
        in its order, processes in the order of ranks.
    """
    phrases = targets.region_phrases(images, positions)
    told = _NameLabels.build(targets, images, phrases), *_own_targets(targets, images, phrases)
    names, owns, same_images = zip(*of_micro_batches(told))
    labels = _NameLabels.joined(names, [own.shape for own in owns])
    own, same_image = torch.block_diag(*owns), torch.block_diag(*same_images)
    num_regions, num_words = own.shape
    sizes = torch.cat(gather_rows(images.new_tensor([[num_regions, num_words]]))).tolist()
    rows, columns = [], []
    parts = zip(gather_rows(labels.regions), gather_rows(labels.words), sizes)
    for rank, (regions, words, (their_regions, their_words)) in enumerate(parts):
        row = _propagated(labels.regions, words, num_regions, their_words)
        if rank == comm.get_rank():
            row = column = torch.where(same_image, own, row)
        else:
            column = _propagated(regions, labels.words, their_regions, num_words)
        rows.append(row)
        columns.append(column)
    return torch.cat(rows, dim=1), torch.cat(columns).T


class _NameLabels(NamedTuple):
    """The names by which regions and words of different images find each other.

    Attributes:
        regions: (n, 2) int64, pairs of a region's row and the key of a name that it has.
        words: (m, 2) int64, pairs of a word's column and the key of a name that it is part of.
    """

    regions: torch.Tensor
    words: torch.Tensor

    @classmethod
    def build(
        cls, targets: ContrastTargets, images: torch.Tensor, phrases: torch.Tensor
    ) -> "_NameLabels":
        """Labels of the regions with these images and phrases, both (R,), and of `targets.words`.

        Words of sentences get none: their phrases mean something in their own image only.
        """
        device = images.device
        regions, words, column = [], [], 0
        for i, (prompt, tokens) in enumerate(zip(targets.prompts, targets.positive_maps)):
            asked = _phrase_keys(prompt.object_names(), device)
            row, pair = ((images == i) & (phrases == asked[:, :1])).nonzero().flip(1).unbind(1)
            regions.append(torch.stack((row, asked[pair, 1]), dim=1))
            taking_part = targets.words[i]
            if prompt.kind == "detection":
                named = _phrase_keys([[name] for name in prompt.names], device)
                pair, word = tokens[named[:, 0]][:, taking_part].nonzero().unbind(1)
                words.append(torch.stack((word + column, named[pair, 1]), dim=1))
            column += int(taking_part.sum())
        none = images.new_empty((0, 2))
        return cls(torch.cat((none, *regions)), torch.cat((none, *words)))

    @classmethod
    def joined(
        cls, parts: Sequence["_NameLabels"], sizes: Sequence[Sequence[int]]
    ) -> "_NameLabels":
        """Labels of regions and words that are laid one behind the other.

        Args:
            sizes: the numbers of regions and of words of each part.
        """
        rows, columns = ([0, *accumulate(numbers)] for numbers in zip(*sizes))
        regions = [p.regions + p.regions.new_tensor([first, 0]) for p, first in zip(parts, rows)]
        words = [p.words + p.words.new_tensor([first, 0]) for p, first in zip(parts, columns)]
        return cls(torch.cat(regions), torch.cat(words))


@functools.lru_cache(maxsize=1 << 16)
def _name_key(name: str) -> int | None:
    """A number below 2^63, the same in every process, for all names with one `bare_name`."""
    bare = bare_name(name)
    if bare is None:
        return None
    digest = hashlib.blake2b(bare.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _phrase_keys(names: Sequence[Sequence[str]], device: torch.device) -> torch.Tensor:
    """(n, 2) int64, pairs of a phrase and the key of one of its names."""
    pairs = [
        (phrase, key)
        for phrase, of_phrase in enumerate(names)
        for key in sorted(k for k in {*map(_name_key, of_phrase)} if k is not None)
    ]
    return torch.tensor(pairs, dtype=torch.int64, device=device).reshape(-1, 2)


def _own_targets(
    targets: ContrastTargets, images: torch.Tensor, phrases: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The blocks of Eq. 4 on the diagonal.

    Args:
        images, phrases: (R,) of the regions.

    Returns:
        Two (R, W) masks of the W words that take part: which belong to the region's phrase by the
        annotation, where the second, which are of the region's own image, is True.
    """
    tokens_of = targets.words.new_zeros((len(images), targets.words.shape[1]))
    for i, tokens in enumerate(targets.positive_maps):
        rows = (images == i) & (phrases >= 0)
        tokens_of[rows] = tokens[phrases[rows]]
    image, token = targets.words.nonzero().unbind(1)
    return tokens_of.index_select(1, token), images[:, None] == image


def _propagated(
    regions: torch.Tensor, words: torch.Tensor, num_regions: int, num_words: int
) -> torch.Tensor:
    """(R, W) bool, which word is part of a name that the region has.

    Args:
        regions, words: the labels of `_NameLabels`, possibly of different processes.
        num_regions, num_words: R and W.
    """
    keys, label = regions[:, 1].unique(return_inverse=True)
    words = words[torch.isin(words[:, 1], keys)]
    named_regions = torch.zeros((num_regions, len(keys)), device=regions.device)
    named_regions[regions[:, 0], label] = 1
    named_words = torch.zeros((num_words, len(keys)), device=regions.device)
    named_words[words[:, 0], torch.searchsorted(keys, words[:, 1].contiguous())] = 1
    # A matrix product counts the names in common, whatever their number.
    return named_regions @ named_words.T > 0
