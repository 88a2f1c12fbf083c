"""A shortlist of names for each image: the tower runs for those that may be in it.

L_inter makes regions and words agree before vision and language meet (GLIPv2, Section 3.2). So one
matrix product of the positions of the pyramid with the words of a vocabulary, which are the same
for all images, tells which names an image is worth asking for. The others are not asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import PromptError, UsageError
from ..language.chunks import prompts_of_words
from ..language.prompt import SEPARATOR, Prompt, clean_name
from ..language.words import NEGATIVE
from .blocks import block_rows
from .contrast import contrast_of
from .contrast_targets import positions_inside
from .text import ParameterCache, precision_and_device

if TYPE_CHECKING:
    from .meta_arch import GLIP
    from .meta_arch.inference import EncodedImages

__all__ = ["NameEmbeddings", "Shortlist", "require_contrast", "require_shortlist", "shortlisted"]

# Vocabularies whose embeddings are kept; 20,000 names take 5 MB.
VOCABULARIES_KEPT = 16


@dataclass(frozen=True)
class Shortlist:
    """Which of the names that are asked an image is asked for.

    Attributes:
        size: the best so many classes; an image with no more is asked for all, as without.
        pinned: names that are always among them.

    Raises:
        UsageError: the size is no whole number from 1, or the names are none.
    """

    size: int
    pinned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.size, Integral) or isinstance(self.size, bool) or self.size < 1:
            raise UsageError(f"shortlist must be a whole number of names from 1, got {self.size!r}")
        given = () if isinstance(self.pinned, str) else tuple(self.pinned)
        if isinstance(self.pinned, str) or not all(isinstance(name, str) for name in given):
            raise UsageError(f"pinned must be a list of names, got {self.pinned!r:.80}")
        object.__setattr__(self, "pinned", given)

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Shortlist | None:
        """Of `shortlist` and `pinned` as `inference` of a config has them; None: of all names."""
        size = settings.get("shortlist")
        return None if size is None else cls(size, settings.get("pinned") or ())

    def pinned_classes(self, prompts: Sequence[Prompt]) -> set[int]:
        """The classes of the pinned names.

        Raises:
            PromptError: a name is in no prompt.
        """
        classes: set[int] = set()
        for pinned in self.pinned:
            written = clean_name(pinned).casefold()
            own = {
                class_id
                for prompt in prompts
                for name, class_id in zip(prompt.names, prompt.class_ids)
                if name.casefold() == written
            }
            if not own:
                raise PromptError(
                    f"{pinned!r} is pinned to the shortlist, and is none of the names that are "
                    "asked: ask for it, or pin it no more"
                )
            classes |= own
        return classes


@runtime_checkable
class CommonSpace(Protocol):
    """What a shortlist is made with: `RegionWordContrast`, or its graphs in an export."""

    def embed_regions(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """See `RegionWordContrast.embed_regions`."""

    def embed_words(self, words: torch.Tensor) -> torch.Tensor:
        """See `RegionWordContrast.embed_words`."""


class NameEmbeddings:
    """Names in the space of the contrast; of each vocabulary they are computed once.

    Args:
        modules: of the model, those that a name goes through.
    """

    def __init__(self, *modules: nn.Module):
        self._cache = ParameterCache(*modules, capacity=VOCABULARIES_KEPT)

    def __call__(self, model: GLIP, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(K, D) of unit length, of the K phrases of all prompts: the mean of each one's words."""
        key = (tuple(prompts), *precision_and_device(model.device))
        return self._cache.get([key], lambda _: [self._embed(model, prompts)])[0]

    @torch.no_grad()  # a graph that is kept would be walked by every later backward pass
    def _embed(self, model: GLIP, prompts: Sequence[Prompt]) -> torch.Tensor:
        contrast, step = require_contrast(model), model.prompt_batch_size
        means = []
        for start in range(0, len(prompts), step):
            tokens = model.tokenizer(prompts[start : start + step]).to(model.device)
            words = contrast.embed_words(model.text_features(tokens).hidden)
            means += [of_phrases.to(w) @ w for w, of_phrases in zip(words, tokens.positive_maps)]
        return F.normalize(torch.cat(means), dim=1)


@torch.no_grad()
def shortlisted(
    model: GLIP,
    images: EncodedImages,
    prompts: Sequence[Sequence[Prompt]],
    shortlists: Sequence[Shortlist | None],
    known: Sequence[Collection[int]] = (),
) -> list[list[Prompt]]:
    """The prompts of each image with the names of its shortlist.

    Lists of names are written anew, in their order, in as few prompts as hold them; negatives stay.
    Sentences, tuned prompts and names with words around them are asked as they are.

    Args:
        images: B images.
        prompts: of each.
        shortlists: of each; None: it is asked for all.
        known: of each the classes that are pinned besides.

    Raises:
        PromptError: see `Shortlist.pinned_classes`.
    """
    asked = [list(of_image) for of_image in prompts]
    for i, shortlist in enumerate(shortlists):
        names = [prompt for prompt in asked[i] if _is_list_of_names(prompt)]
        classes = {class_id for prompt in names for class_id in prompt.class_ids} - {NEGATIVE}
        if shortlist is None or len(classes) <= shortlist.size:
            continue
        pinned = classes & shortlist.pinned_classes(asked[i]).union(known[i] if known else ())
        scores = _scores(model, images.select(slice(i, i + 1)), names)
        kept = _best_classes(scores, names, shortlist.size, pinned) | {NEGATIVE}
        words = [
            (seen or name, class_id)
            for prompt in names
            for name, class_id, seen in zip_longest(
                prompt.names, prompt.class_ids, prompt.exemplars
            )
            if class_id in kept
        ]
        others = [prompt for prompt in asked[i] if not _is_list_of_names(prompt)]
        fewest = len(prompts_of_words(model.tokenizer, words, model.chunk_size))
        # Of one length: a name scores higher in a short prompt, and would be found too often.
        even = prompts_of_words(model.tokenizer, words, ceil(len(words) / fewest))
        asked[i] = even + others
    return asked


def require_shortlist(model: GLIP, shortlist: Shortlist, prompts: Sequence[Prompt]) -> None:
    """Check that the model can make a shortlist of an image's prompts.

    Raises:
        ConfigError: see `require_contrast`.
        PromptError: see `Shortlist.pinned_classes`.
    """
    require_contrast(model)
    if any(map(_is_list_of_names, prompts)):
        shortlist.pinned_classes(prompts)


def require_contrast(model: nn.Module) -> CommonSpace:
    """The projections that a shortlist is made with.

    Raises:
        ConfigError: the model has none.
    """
    space: Any = getattr(model, "contrast", None)
    if isinstance(space, CommonSpace):  # an export's is of graphs
        return space
    return contrast_of(model, "a shortlist of names is made")


def _is_list_of_names(prompt: Prompt) -> bool:
    """Whether any of its phrases may be left out, and the rest be written anew."""
    listed = prompt.kind == "detection" and prompt.caption == SEPARATOR.join(prompt.names)
    return listed and prompt.embedding_id is None


def _scores(model: GLIP, image: EncodedImages, prompts: Sequence[Prompt]) -> torch.Tensor:
    """(K,) of the phrases: the cosine of the position of an image that is most alike."""
    owner: Any = model
    names = owner.name_embeddings(model, prompts)
    regions = require_contrast(model).embed_regions(image.features)
    level_sizes = model.level_sizes(image.features)
    inside = positions_inside(
        image.sizes, level_sizes, model.anchor_generator.strides, regions.device
    )
    own = regions[inside]
    step = block_rows(names[None], len(own))
    return torch.cat([(part @ own.T).amax(dim=1) for part in names.split(step)])


def _best_classes(
    scores: torch.Tensor, prompts: Sequence[Prompt], size: int, pinned: set[int]
) -> set[int]:
    """The pinned classes, and the best of the others up to `size`; of a class its best phrase
    counts, and of equal ones the first."""
    best: dict[int, float] = {}
    ids = [class_id for prompt in prompts for class_id in prompt.class_ids]
    for class_id, score in zip(ids, scores.tolist(), strict=True):
        if class_id != NEGATIVE:
            best[class_id] = max(score, best.get(class_id, score))
    ranking = sorted(best, key=lambda class_id: (class_id not in pinned, -best[class_id]))
    return pinned | set(ranking[:size])
