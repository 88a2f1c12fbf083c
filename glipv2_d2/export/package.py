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

from ..checkpoint import frozen_words
from ..errors import ExportError
from ..files import give_usual_mode
from ..language.frozen_tokenizer import FrozenTokenizer
from ..language.prompt import Prompt, shorten
from ..language.tokenizer import PromptTokenizer
from ..modeling import GLIP
from ..modeling.shortlist import Shortlist, require_contrast
from ..modeling.text import FrozenVocabulary
from . import graphs, standalone
from .int8 import quantize
from .manifest import FORMATS, PROMPTS_FILE, TOKENIZER_FOLDER, Manifest
from .onnx_format import require, save_onnx
from .openvino_format import save_openvino
from .tracing import evaluation

__all__ = ["RUNTIME_FILE", "export_glip", "require_int8"]

RUNTIME_FILE = "glip_runtime.py"
# What writes them.
PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": (),
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("openvino",),
}


logger = logging.getLogger(__name__)


def export_glip(
    model: GLIP,
    folder: str | Path,
    *,
    format: str = "torch",
    prompts: Sequence[Prompt] = (),
    calibration: Sequence[dict] = (),
    inference: dict | None = None,
    notes: dict[str, str] | None = None,
) -> Path:
    """Write a model as graphs.

    The folder gets `image.pt2` (or `.onnx`, or `.xml` with `.bin`), `export.json` and
    `glip_runtime.py`, which runs it without this package; `text.pt2`, the language backbone, and
    `tokenizer/`, or, for fixed prompts, what both make of them in `prompts.safetensors`; `mask.pt2`
    and `answer.pt2`, the mask and VQA heads, where the model has them; and, where it writes
    captions and answers any prompt, `reading.pt2` and `caption.pt2`; of a model with the contrast
    `regions.pt2` and `names.pt2`, for shortlists. docs/export.md describes them. What only training
    needs stays behind.

    Args:
        model: with its weights, on the CPU. folder: to be made.
        format: "torch" (torch.export), "onnx" or "openvino".
        prompts: the export answers these and no others; none: any, or those of the model, where
            its vocabulary is fixed (`freeze_vocabulary`).
        calibration: for OpenVINO: compute in int8, with the ranges that these inputs of the model
            (`GLIP.forward`) show, some dozens of every kind that it will be asked; none: in
            floating point.
        inference: `min_size`, `max_size`, `score_threshold`, `merge_iou`, `phrase_threshold`,
            `phrases`, `shortlist`, `pinned` of the predictor.
        notes: how the export was made; kept in `export.json`.

    Returns:
        The folder.

    Raises:
        ExportError: the folder exists, a package is missing, or the model cannot be exported.
        PromptError: a prompt is too long.
        UsageError: a shortlist that is no whole number, or pins what are no names.
        ConfigError: a shortlist, of a model without the contrast.
    """
    folder = Path(folder)
    if isinstance(model.tokenizer, FrozenTokenizer):
        prompts = prompts or model.tokenizer.prompts
    _require_exportable(model, folder, format, prompts)
    if calibration:
        require_int8(format)
    if getattr(model, "presence_head", None) is not None:
        logger.warning("the model's presence head is not exported: boxes score as without it")
    _require_shortlist(model, prompts, inference or {})
    tokenizer = None if prompts else _exported_tokenizer(model)
    with evaluation(model):
        stored = frozen_words(model, prompts) if prompts else None
    manifest = Manifest.of(
        model,
        format=format,
        prompts=[dataclasses.asdict(prompt) for prompt in prompts],
        inference=dict(inference or {}),
        notes={**(notes or {}), "torch": torch.__version__}
        | ({"int8": f"calibrated on {len(calibration)} inputs"} if calibration else {}),
    )
    with _whole_folder(folder) as unfinished:
        _save_graphs(model, manifest, unfinished)
        if stored is not None:
            _save_prompts(stored, unfinished / PROMPTS_FILE)
        if tokenizer is not None:
            _save_tokenizer(tokenizer, unfinished / TOKENIZER_FOLDER)
        shutil.copyfile(standalone.__file__, unfinished / RUNTIME_FILE)
        manifest.write(unfinished)
        if calibration:
            quantize(unfinished, calibration)
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
    require(*PACKAGES[format])
    if any(prompt.causal for prompt in prompts):
        raise ExportError(
            "a caption is no fixed prompt, because writing it takes the language model: export "
            "without prompts"
        )
    _check_tuned(model, prompts)


def require_int8(format: str) -> None:
    """Raise ExportError where a format has no int8, or what makes it is not installed."""
    if format != "openvino":
        raise ExportError(
            f"int8 is of OpenVINO's exports (--format openvino), and the format is {format!r}"
        )
    require("openvino", "nncf", extra="int8")


def _require_shortlist(model: GLIP, prompts: Sequence[Prompt], inference: dict) -> None:
    if Shortlist.of_settings(inference) is None:
        return
    require_contrast(model)
    if prompts:
        raise ExportError(
            "an export for fixed prompts has no shortlist, which writes prompts anew: leave out "
            "inference.shortlist, or export without prompts"
        )


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
            "which is not exported; only those are that a tokenizer.json describes: export it for "
            "fixed names (--prompt, prompts=)"
        )
    return tokenizer


def _save_graphs(model: GLIP, manifest: Manifest, folder: Path) -> None:
    parts: list[tuple[str, Callable, Sequence[str], Sequence[str]]] = [
        ("image", graphs.export_image_path, graphs.IMAGE_INPUTS, graphs.IMAGE_OUTPUTS)
    ]
    mask = "mask", graphs.export_mask_path, graphs.MASK_INPUTS, graphs.MASK_OUTPUTS
    answer = "answer", graphs.export_answer_path, graphs.ANSWER_INPUTS, graphs.ANSWER_OUTPUTS
    reading = "reading", graphs.export_reading_path, graphs.READING_INPUTS, graphs.READING_OUTPUTS
    caption = "caption", graphs.export_caption_path, graphs.CAPTION_INPUTS, graphs.CAPTION_OUTPUTS
    if not manifest.prompts:
        parts.append(("text", graphs.export_text_path, graphs.TEXT_INPUTS, graphs.TEXT_OUTPUTS))
    parts += [mask] if manifest.mask_size else []
    parts += [answer] if manifest.answers else []
    regions = "regions", graphs.export_regions_path, graphs.REGIONS_INPUTS, graphs.REGIONS_OUTPUTS
    names = "names", graphs.export_names_path, graphs.NAMES_INPUTS, graphs.NAMES_OUTPUTS
    parts += [reading, caption] if manifest.writes else []
    parts += [regions, names] if manifest.ranks else []
    for name, trace, inputs, outputs in parts:
        program, path = trace(model), folder / manifest.graph_file(name)
        if manifest.format == "torch":
            torch.export.save(program, path)
        else:
            save = save_onnx if manifest.format == "onnx" else save_openvino
            save(program, path, inputs, outputs)


def _save_tokenizer(tokenizer: PromptTokenizer, folder: Path) -> None:
    tokenizer.tokenizer.save_pretrained(folder)
    # Some pad and cut every text to a length of their own, which programs that read the file by
    # themselves would get, too.
    path = str(folder / "tokenizer.json")
    plain = Tokenizer.from_file(path)
    plain.no_padding()
    plain.no_truncation()
    plain.save(path)


def _save_prompts(vocabulary: FrozenVocabulary, path: Path) -> None:
    """Per prompt i "i.words" (T, L) and "i.positive_map" (K, T)."""
    maps = vocabulary.tokenizer.positive_maps
    words = vocabulary.words.detach().float().cpu().split([found.shape[1] for found in maps])
    stored = {f"{i}.words": part.clone() for i, part in enumerate(words)}
    stored |= {f"{i}.positive_map": found.contiguous() for i, found in enumerate(maps)}
    save_file(stored, path)
    give_usual_mode(path)
