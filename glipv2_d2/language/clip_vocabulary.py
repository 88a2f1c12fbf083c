"""CLIP's tokenizer offline: files for transformers, made of the merges inside open_clip_torch."""

from __future__ import annotations

import gzip
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

__all__ = ["CLIP_MASK_TOKEN_ID", "clip_merges_file", "write_clip_tokenizer"]

# CLIP has no mask token. The official GLIPv2 code takes this entry for it, a rare emoji: the last
# but one merge.
CLIP_MASK_TOKEN_ID = 49404

_MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
# Of OpenAI's file, from which every CLIP has its 49,408 entries.
_MERGES_HASH = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
_NUM_MERGES = 49152 - 256 - 2
_START, _END = "<|startoftext|>", "<|endoftext|>"


def clip_merges_file() -> Path | None:
    """OpenAI's file of merges in the package open_clip_torch; None without it.

    The package itself is not imported: that takes seconds.
    """
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / _MERGES_FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _MERGES_HASH:
        return None
    return path


def write_clip_tokenizer(merges_file: Path, folder: Path) -> None:
    """Write the tokenizer files that `AutoTokenizer.from_pretrained(folder)` takes for CLIP's.

    Args:
        merges_file: see `clip_merges_file`. folder: an existing folder.
    """
    lines = gzip.decompress(merges_file.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 1 + _NUM_MERGES]  # the first line is a title
    characters = _byte_characters()
    entries = [
        *characters,
        *(character + "</w>" for character in characters),
        *("".join(merge.split()) for merge in merges),
        _START,
        _END,
    ]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    text = "\n".join(["#version: 0.2", *merges]) + "\n"
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": _START,
        "eos_token": _END,
        "unk_token": _END,
        "pad_token": _END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _byte_characters() -> list[str]:
    """The printable characters that stand for the 256 bytes, in the order of CLIP's vocabulary.

    As in GPT-2: printable bytes stand for themselves, the others for characters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
