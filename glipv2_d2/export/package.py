"""Write a GLIP as a folder of graphs and settings."""

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from ..errors import ExportError
from ..files import give_usual_mode
from ..language.prompt import Prompt, shorten
from ..language.tokenizer import PromptTokenizer
from ..modeling import GLIP
from . import graphs
from .manifest import FORMATS, Manifest
from .onnx_format import require, save_onnx

__all__ = ["PROMPTS_FILE", "TOKENIZER_FOLDER", "export_glip"]

logger = logging.getLogger(__name__)

PROMPTS_FILE = "prompts.safetensors"
TOKENIZER_FOLDER = "tokenizer"


def export_glip(
    model: GLIP,
    folder: str | Path,
    *,
    format: str = "torch",
    prompts: Sequence[Prompt] = (),
    inference: dict | None = None,
    notes: dict[str, str] | None = None,
) -> Path:
    """Write a model as graphs.

    The folder gets `image.pt2` (or `image.onnx`), `export.json` and `tokenizer/`; and
    `text.pt2` (or `.onnx`), the language backbone, or, for fixed prompts, what it makes of them
    in `prompts.safetensors`; `answer.pt2`, the VQA head, where the model has one; and, where it
    writes captions and answers any prompt, `reading.pt2` and `caption.pt2`. docs/export.md
    describes them. Masks, and all that only training needs, stay behind.

    Args:
        model: with its weights, on the CPU. folder: to be made.
        format: "torch" (torch.export) or "onnx".
        prompts: the export answers these and no others; none: it answers any prompt.
        inference: `min_size`, `max_size`, `score_threshold`, `merge_iou` of the predictor.
        notes: how the export was made; kept in `export.json`.

    Returns:
        The folder.

    Raises:
        ExportError: the folder exists, a package is missing, or the model cannot be exported.
        PromptError: a prompt is too long.
    """
    folder = Path(folder)
    _require_exportable(model, folder, format, prompts)
    tokenizer = _exported_tokenizer(model)
    if getattr(model, "mask_head", None) is not None:
        logger.warning("the model's mask head is not exported: the export finds boxes, no masks")
    if getattr(model, "presence_head", None) is not None:
        logger.warning("the model's presence head is not exported: boxes score as without it")
    stored = _encode(model, prompts) if prompts else None
    manifest = Manifest.of(
        model,
        format=format,
        prompts=[dataclasses.asdict(prompt) for prompt in prompts],
        inference=dict(inference or {}),
        notes={**(notes or {}), "torch": torch.__version__},
    )
    with _whole_folder(folder) as unfinished:
        _save_graphs(model, manifest, unfinished)
        if stored is not None:
            save_file(stored, unfinished / PROMPTS_FILE)
            give_usual_mode(unfinished / PROMPTS_FILE)
        _save_tokenizer(tokenizer, unfinished / TOKENIZER_FOLDER)
        manifest.write(unfinished)
    return folder


def _require_exportable(model: GLIP, folder: Path, format: str, prompts: Sequence[Prompt]) -> None:
    """Refuse what cannot be done before anything is traced."""
    if format not in FORMATS:
        raise ExportError(f"the format is {format!r}; choose one of {', '.join(FORMATS)}")
    if folder.exists():
        raise ExportError(f"'{folder}' exists already: remove it, or name another folder")
    if model.device.type != "cpu":
        raise ExportError(
            f"the model is on '{model.device}': graphs are made on the CPU (model.to('cpu')), and "
            "moved to another device when they are loaded"
        )
    if format == "onnx":
        require("onnx", "onnxscript")
    if any(prompt.causal for prompt in prompts):
        raise ExportError(
            "a caption is no fixed prompt, because writing it takes the language model: export "
            "without prompts"
        )
    _check_tuned(model, prompts)


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder that has another name until all of it is there; nothing is left of a failure."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}_", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _check_tuned(model: GLIP, prompts: Sequence[Prompt]) -> None:
    """Refuse what an export would lose of tuned prompts: it finds its words by their tokens."""
    tuned = list(model.prompt_embeddings.parameters())
    if tuned and not prompts:
        raise ExportError(
            "the model has tuned prompts, whose words only an export for fixed prompts has: name "
            "them (--prompt FILE, prompts=load_prompt(model, FILE))"
        )
    captions = [prompt.caption for prompt in prompts]
    twice = next((text for text in captions if captions.count(text) > 1), None)
    if tuned and twice is not None:
        raise ExportError(
            f"two of the prompts read {shorten(twice)!r}, and an export can have but one of them: "
            "write two exports"
        )


def _exported_tokenizer(model: GLIP) -> PromptTokenizer:
    tokenizer = model.tokenizer
    if type(tokenizer) is not PromptTokenizer:
        raise ExportError(
            f"the language backbone has a tokenizer of its own, {type(tokenizer).__name__}, "
            "which is not exported; only those are that a tokenizer.json describes"
        )
    return tokenizer


def _save_graphs(model: GLIP, manifest: Manifest, folder: Path) -> None:
    parts: list[tuple[str, Callable, Sequence[str], Sequence[str]]] = [
        ("image", graphs.export_image_path, graphs.IMAGE_INPUTS, graphs.IMAGE_OUTPUTS)
    ]
    answer = "answer", graphs.export_answer_path, graphs.ANSWER_INPUTS, graphs.ANSWER_OUTPUTS
    reading = "reading", graphs.export_reading_path, graphs.READING_INPUTS, graphs.READING_OUTPUTS
    caption = "caption", graphs.export_caption_path, graphs.CAPTION_INPUTS, graphs.CAPTION_OUTPUTS
    if not manifest.prompts:
        parts.append(("text", graphs.export_text_path, graphs.TEXT_INPUTS, graphs.TEXT_OUTPUTS))
    parts += [answer] if manifest.answers else []
    parts += [reading, caption] if manifest.writes else []
    for name, trace, inputs, outputs in parts:
        program, path = trace(model), folder / manifest.graph_file(name)
        if manifest.format == "onnx":
            save_onnx(program, path, inputs, outputs)
        else:
            torch.export.save(program, path)


def _save_tokenizer(tokenizer: PromptTokenizer, folder: Path) -> None:
    tokenizer.tokenizer.save_pretrained(folder)
    # Some pad and cut every text to a length of their own, which programs that read the file by
    # themselves would get, too.
    path = str(folder / "tokenizer.json")
    plain = Tokenizer.from_file(path)
    plain.no_padding()
    plain.no_truncation()
    plain.save(path)


@torch.no_grad()
def _encode(model: GLIP, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Per prompt i "i.input_ids" (T,), "i.words" (T, L) and "i.positive_map" (K, T)."""
    stored = {}
    with graphs.evaluation(model):
        for i, prompt in enumerate(prompts):
            tokens = model.tokenizer([prompt]).to(model.device)
            words = getattr(model.text_features(tokens), graphs.read_words(model))
            stored[f"{i}.input_ids"] = tokens.input_ids[0].cpu()
            stored[f"{i}.words"] = words[0].float().cpu().contiguous()
            stored[f"{i}.positive_map"] = tokens.positive_maps[0].cpu()
    return stored
