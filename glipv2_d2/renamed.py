"""What was moved, under the names that it had in 0.1: each import warns, and works.

Configs that were written to an output folder, and other people's code, name them. Gone in 0.3.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["find_renamed"]

# The longest prefix counts.
RENAMED = {
    "checkpoint.clip_text": "checkpoint.formats.clip",
    "checkpoint.convert": "checkpoint.formats.glip",
    "checkpoint.swin": "checkpoint.formats.swin",
    "checkpoint.unicl": "checkpoint.formats.unicl",
    "data.class_knowledge": "language.class_knowledge",
    "data.class_names": "language.class_names",
    "data.datasets.spans": "language.spans",
    "data.inspection": "cli.inspection",
    "data.datasets.odinw_table": "data.datasets.odinw",
    "data.phrase_words": "language.word_lists",
    "data.phrases": "language.noun_phrases",
    "data.problems": "data.report",
    "data.prompt_text": "language.prompt_text",
    "data.prompts": "language.negatives",
    "data.scenes": "scenes",
    "data.scenes.vocabulary": "data.datasets.scenes",
    "engine.detect": "cli.detect",
    "engine.detect_images": "cli.detection.images",
    "engine.detect_inputs": "cli.detection.inputs",
    "engine.detect_journal": "cli.detection.journal",
    "engine.drawing": "cli.detection.drawing",
    "evaluation.contact_sheet": "scenes.contact_sheet",
    "evaluation.masked_words": "scenes.masked_words",
    "evaluation.oracles": "scenes.oracles",
    "evaluation.region_word_retrieval": "scenes.region_word_retrieval",
    "modeling.backbone.build": "modeling.backbone.fpn",
    "modeling.backbone.clip_weights": "checkpoint.formats.clip",
    "modeling.backbone.pretrained": "checkpoint.loading",
    "modeling.backbone.swin_weights": "checkpoint.formats.swin",
    "modeling.gather": "modeling.processes",
    "modeling.positive_map": "language.positive_map",
    "modeling.text.clip_vocabulary": "language.clip_vocabulary",
    "modeling.text.definitions": "language.class_knowledge",
    "modeling.text.resolve": "language.pretrained_names",
    "modeling.text.tokenizer": "language.tokenizer",
    "structures": "language",
}
# Names that packages of 0.1 took from elsewhere: package -> names -> the module that has them.
MOVED_NAMES = {
    "checkpoint": {"CheckpointError": "errors"},
    "data": {
        "DataError": "errors",
        "DetectionPromptSampler": "language",
        "ImageReadError": "errors",
        "read_image": "images",
    },
    "data.datasets": dict.fromkeys(
        (
            "GROUNDING_FORMATS",
            "load_mdetr_json",
            "register_coco_dataset",
            "register_grounding_dataset",
        ),
        "data",
    ),
    "data.mappers": {"GroundingDatasetMapper": "data"},
    "evaluation": {"composition_oracles": "scenes.oracles"},
    "language": {"PromptError": "errors", "PromptTooLongError": "errors"},  # was `structures`
    "modeling.heads": {"bit_masks": "modeling.heads.mask"},
    "modeling.text": {
        "PromptTokenizer": "language",
        "PromptTooLongError": "errors",
        "TokenizedPrompts": "language",
    },
}
_PACKAGE = f"{__package__}."


class _RenamedModules(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _new_name(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new name: one object, so that classes stay equal to themselves."""
        new = _new_name(spec.name)
        assert new is not None
        warnings.warn(
            f"{spec.name} is called {new} now; the old name goes with 0.3",
            FutureWarning,
            stacklevel=2,
        )
        return importlib.import_module(new)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it was run under its new name."""


def _new_name(name: str) -> str | None:
    old = name.removeprefix(_PACKAGE)
    if old == name:
        return None
    for prefix in sorted(RENAMED, key=len, reverse=True):
        if old == prefix or old.startswith(f"{prefix}."):
            return _PACKAGE + RENAMED[prefix] + old[len(prefix) :]
    return None


def _finder_of_names(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        new = _PACKAGE + names[name]
        warnings.warn(
            f"{name} is in {new} now; {package} lets go of it with 0.3", FutureWarning, stacklevel=2
        )
        return getattr(importlib.import_module(new), name)

    return find


def find_renamed() -> None:
    """Let Python's import know the old names; once per process.

    Before Python's own finders: what an update of a clone leaves of an old folder (its
    `__pycache__`) would be a package for them.
    """
    if any(isinstance(finder, _RenamedModules) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _RenamedModules())
    for package, names in MOVED_NAMES.items():
        module = importlib.import_module(_PACKAGE + package)
        vars(module)["__getattr__"] = _finder_of_names(module.__name__, names)
