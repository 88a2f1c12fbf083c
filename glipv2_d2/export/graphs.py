"""The graphs of a GLIP: words from tokens, predictions from an image and words; answers; captions.

Captions take two: what their words read of an image, computed once, and the next words of texts so
far. The text is read anew for each word, so that nobody has to carry keys and values along: next to
the image tower its cost is small, and beam search is choosing rows.

`torch.export` traces with symbolic sizes. What makes the graphs hold for every size, and tracing
take seconds and not hours, is kept here:

* Images that are padded to multiples of the backbone's stride first: every size behind that is then
  a short expression, where PyTorch's solver would otherwise carry "rounded up to a multiple of 4,
  halved, rounded up to whole windows, ..." through each of two thousand nodes.
* No decision on whether a size is 1 (`backed_size_oblivious`), and an example in general position:
  more than one window, more than one position on the coarsest level.
* The conditions that the tracer writes down while it looks for the layout in memory of
  intermediate results ("more than one image", ...) are taken out of the program: nothing that it
  computes depends on them.
"""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx.experimental._config as fx_config
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils._sympy.value_ranges import ValueRanges

from ..errors import ExportError
from ..language.tokenized import TokenizedPrompts
from ..modeling import GLIP
from ..modeling.heads import VqaHead
from ..modeling.text import TextFeatures
from ..modeling.text.attention import KeyValueCache

__all__ = ["ANSWER_INPUTS", "ANSWER_OUTPUTS", "CAPTION_INPUTS", "CAPTION_OUTPUTS", "IMAGE_INPUTS",
           "IMAGE_OUTPUTS", "READING_INPUTS", "READING_OUTPUTS", "TEXT_INPUTS", "TEXT_OUTPUTS",
           "ImagePath", "TextPath", "evaluation", "export_answer_path", "export_caption_path",
           "export_image_path", "export_reading_path", "export_text_path", "read_words",
           "tracing"]  # fmt: skip

# "causal" is an input of models that write captions.
IMAGE_INPUTS = ("images", "words", "mask", "causal")
IMAGE_OUTPUTS = ("logits", "deltas", "centerness", "fused_words")
READING_INPUTS = ("images",)
READING_OUTPUTS = ("read",)
CAPTION_INPUTS = ("read", "texts")
CAPTION_OUTPUTS = ("next_logits",)
TEXT_INPUTS = ("input_ids", "mask", "causal")
TEXT_OUTPUTS = ("words",)
ANSWER_INPUTS = ("fused_words", "mask")
ANSWER_OUTPUTS = ("answer_logits",)

# Sizes of the example in strides of the backbone: the coarsest stage has more than one window of
# any Swin (12), and no two sizes are alike.
_EXAMPLE_SIZE = (13, 15)
_EXAMPLE_TOKENS = 9


class ImagePath(nn.Module):
    """Backbone, fusion neck and head of a GLIP, with plain tensors in and out."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck
        self.head = model.head

    def forward(
        self,
        images: torch.Tensor,
        words: torch.Tensor,
        mask: torch.Tensor,
        causal: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict.

        Args:
            images: (B, 3, H, W) normalized; of any size, padded here as GLIP pads: right and below
                with zeros, to multiples of the backbone's divisibility.
            words: (B, T, L), the field of TextFeatures that the neck reads.
            mask: (B, T) bool, True for real tokens.
            causal: (B,) bool, the captions among the texts, which the image does not look at.

        Returns:
            logits (B, N, T), deltas (B, N, 4) and centerness (B, N): see GroundingOutput; and the
            fused words (B, T, L), which the task heads read.
        """
        levels = _levels(self.backbone, images)
        seen = None if causal is None else ~causal
        levels, fused = self.neck(levels, TextFeatures(words, words, mask, causal, seen))
        output = self.head(levels, fused)
        return output.logits, output.deltas, output.centerness, fused


def _levels(backbone: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    step: Any = backbone.size_divisibility
    height, width = ((size + step - 1) // step * step for size in images.shape[-2:])
    right, below = width - images.shape[3], height - images.shape[2]
    return list(backbone(nn.functional.pad(images, (0, right, 0, below))).values())


class TextPath(nn.Module):
    """The language backbone of a GLIP, with plain tensors in and out."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.language_backbone = model.language_backbone
        self.reads = read_words(model)

    def forward(
        self, input_ids: torch.Tensor, mask: torch.Tensor, causal: torch.Tensor | None = None
    ) -> torch.Tensor:
        """input_ids (B, T) int64, mask (B, T) bool, causal (B,) bool -> words (B, T, L)."""
        tokens = TokenizedPrompts(input_ids, mask, positive_maps=[], causal=causal)
        return getattr(self.language_backbone(tokens), self.reads)


class AnswerPath(nn.Module):
    """The VQA head of a GLIPv2, with plain tensors in and out."""

    def __init__(self, head: VqaHead):
        super().__init__()
        self.head = head

    def forward(self, fused_words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """fused_words (B, T, L), mask (B, T) bool -> scores before the sigmoid (B, answers)."""
        return self.head.logits(fused_words, mask)


class ReadingPath(nn.Module):
    """What the words of captions read of images: backbone and tower without text."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images, see `ImagePath` -> (blocks, B, N, C)."""
        neck: Any = self.neck
        return torch.stack(neck.read_images(_levels(self.backbone, images)))


class CaptionPath(nn.Module):
    """The next words of captions."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.language_backbone = model.language_backbone
        self.neck = model.neck
        self.head: Any = model.caption_head

    def forward(self, read: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """read (blocks, B, N, C), texts (B, K, n) int64, the tokens so far of K texts of each
        image -> scores of the next token (B, K, V)."""
        backbone: Any = self.language_backbone
        neck: Any = self.neck
        words = backbone.read_on(texts.flatten(0, 1), KeyValueCache())
        words = neck.read_on(words, list(read), KeyValueCache())
        logits = self.head.logits(words[:, -1], backbone.word_embedding)
        return logits.unflatten(0, texts.shape[:2])


def read_words(model: GLIP) -> str:
    """Which field of TextFeatures the neck reads: "hidden" or "embedded"."""
    neck: Any = model.neck
    return neck.reads


def export_image_path(model: GLIP) -> ExportedProgram:
    """The image path as a program for any number of images, sizes and tokens.

    Traced with the model's weights, in evaluation mode; the model is left as it was.

    Raises:
        ExportError: this PyTorch is too old.
    """
    words = torch.zeros(2, _EXAMPLE_TOKENS, model.head.bias_lang.numel())
    mask = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.bool)
    example = (_example_images(model), words, mask, *_example_causal(model))
    return _export(ImagePath(model), example, [(0, 2, 3), (0, 1), (0, 1), (0,)])


def export_text_path(model: GLIP) -> ExportedProgram:
    """The text path as a program for any number of prompts and tokens.

    Raises:
        ExportError: this PyTorch is too old.
    """
    input_ids = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.int64)
    mask = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.bool)
    example = (input_ids, mask, *_example_causal(model))
    return _export(TextPath(model), example, [(0, 1), (0, 1), (0,)])


def export_answer_path(model: GLIP) -> ExportedProgram:
    """The answer path as a program for any number of questions and tokens.

    Raises:
        ExportError: this PyTorch is too old.
    """
    head: Any = model.vqa_head
    words = torch.zeros(2, _EXAMPLE_TOKENS, head.pooling.in_features)
    mask = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.bool)
    return _export(AnswerPath(head), (words, mask), [(0, 1), (0, 1)])


def export_reading_path(model: GLIP) -> ExportedProgram:
    """What captions read of images, as a program for any number of images and sizes.

    Raises:
        ExportError: this PyTorch is too old.
    """
    return _export(ReadingPath(model), (_example_images(model),), [(0, 2, 3)])


def export_caption_path(model: GLIP) -> ExportedProgram:
    """The next words as a program for any number of images, positions, texts and tokens.

    Raises:
        ExportError: this PyTorch is too old.
    """
    neck: Any = model.neck
    channels = neck.blocks[0].fusion.norm_v.weight.numel()
    read = torch.zeros(len(neck.blocks), 2, 35, channels)
    texts = torch.ones(2, 3, _EXAMPLE_TOKENS, dtype=torch.int64)
    return _export(CaptionPath(model), (read, texts), [(1, 2), (0, 1, 2)])


def _example_images(model: GLIP) -> torch.Tensor:
    return torch.zeros(2, 3, *(n * model.backbone.size_divisibility for n in _EXAMPLE_SIZE))


def _example_causal(model: GLIP) -> tuple[torch.Tensor, ...]:
    """Of a model that writes captions, one of two texts is a caption."""
    writes = getattr(model, "caption_head", None) is not None
    return (torch.tensor([True, False]),) if writes else ()


def _export(
    path: nn.Module, example: tuple[torch.Tensor, ...], dynamic: Sequence[Sequence[int]]
) -> ExportedProgram:
    """`dynamic`: per input the dimensions whose size is free; more of them than inputs are no
    matter."""
    needed = ((fx_config, "backed_size_oblivious"), (torch.compiler, "is_exporting"))
    if not all(hasattr(*place) for place in needed):
        raise ExportError(
            f"exporting needs a newer PyTorch than {torch.__version__} (tried with 2.15): "
            "pip install --upgrade torch torchvision"
        )
    shapes = tuple(dict.fromkeys(dims, Dim.DYNAMIC) for dims, _ in zip(dynamic, example))
    with evaluation(path), tracing():
        program = torch.export.export(path, example, dynamic_shapes=shapes, strict=False)
    _drop_conditions(program)
    _drop_idle_nodes(program)
    return program


@contextmanager
def evaluation(path: nn.Module):
    """Evaluation mode, and each module as it was afterwards."""
    training = {module: module.training for module in path.modules()}
    path.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def tracing():
    """PyTorch's settings under which it traces with symbolic sizes here."""
    settings: Any = fx_config  # PyTorch makes an object with `patch` of the module
    # It keeps symbolic shapes for a second use, which costs a third of the time here.
    cache = torch._dynamo.config.patch(fake_tensor_cache_enabled=False)
    with torch.no_grad(), settings.patch(backed_size_oblivious=True), cache:
        yield


def _drop_conditions(program: ExportedProgram) -> None:
    """Take out what the tracer demands of the inputs' free sizes: all hold from 1 on."""
    if hasattr(program, "_guards_code"):  # older versions keep none
        program._guards_code = []
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for name in program.graph_signature.user_inputs:
        for size in nodes[name].meta["val"].shape:
            if isinstance(size, torch.SymInt):
                upper = program.range_constraints[size.node.expr].upper
                program.range_constraints[size.node.expr] = ValueRanges(1, upper)


def _drop_idle_nodes(program: ExportedProgram) -> None:
    """Remove nodes that hand on their input: a third of the graph.

    Conversions to the type that a tensor has, with the check that follows each; dropout; blocks
    (see modeling/blocks.py) of which there is only one.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif (source := _source_if_idle(node)) is not None:
            node.replace_all_uses_with(source)
            program.graph_signature.replace_all_uses(node.name, source.name)  # of an output
            graph.erase_node(node)
    graph.eliminate_dead_code()
    graph.lint()
    program.graph_module.recompile()


def _source_if_idle(node: torch.fx.Node) -> torch.fx.Node | None:
    """The node whose value this one hands on unchanged, if it does."""
    aten = torch.ops.aten
    if node.op != "call_function":
        return None
    source: Any = node.args[0] if node.args else None
    if node.target is aten.to.dtype:
        return source if source.meta["val"].dtype == node.meta["val"].dtype else None
    if node.target is aten.dropout.default:
        return None if node.args[2] else source  # args[2]: in training
    if node.target is aten.cat.default:
        return source[0] if len(source) == 1 else None
    if getattr(node.target, "__name__", "") == "getitem":
        if source.target is aten.split.Tensor and len(source.meta["val"]) == 1:
            return source.args[0]
    return None
