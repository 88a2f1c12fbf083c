"""Use an exported GLIP like the model itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.anchor_generator import BufferList, DefaultAnchorGenerator
from detectron2.structures import Boxes
from safetensors.torch import load_file
from torch import nn
from torch.export.passes import move_to_device_pass
from transformers import PreTrainedTokenizerFast

from ..errors import ExportError, PromptError
from ..language.frozen_tokenizer import FrozenTokenizer
from ..language.prompt import Prompt
from ..language.tokenized import TokenizedPrompts
from ..language.tokenizer import PromptTokenizer
from ..modeling import GLIP
from ..modeling.boxes import InclusiveBoxCoder
from ..modeling.devices import resolve_device
from ..modeling.fusion import modulated_deform_conv2d
from ..modeling.heads import GroundingOutput
from ..modeling.losses import GroundingLosses
from ..modeling.matcher import ATSSMatcher
from ..modeling.postprocessing import GroundingPostprocessor
from ..modeling.shortlist import NameEmbeddings
from ..modeling.text import FrozenVocabulary, TextFeatures
from .heads import ExportedAnswers, ExportedCaptions, ExportedContrast, ExportedMasks, Graph
from .manifest import OF_MODEL, OF_POSTPROCESSOR, PROMPTS_FILE, TOKENIZER_FOLDER, Manifest
from .onnx_format import require
from .standalone import open_graph

__all__ = ["ExportedGLIP"]

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


class ExportedGLIP(GLIP):
    """A GLIP whose layers are graphs in files; for inference.

    It is called like GLIP, and everything around the layers (padding, chunks of a vocabulary,
    post-processing) is GLIP's own, and so is what is made of the scores of answers. An export for
    fixed prompts looks for these in inputs without prompt, and refuses others.

    Args:
        folder: of `export_glip`. device: where it runs.

    Raises:
        ExportError: the folder is not an export, a file is missing or damaged, or a package
            that it needs is not installed.
    """

    def __init__(self, folder: str | Path, device: str = "cpu"):
        folder = Path(folder)
        manifest = Manifest.read(folder)
        device = resolve_device(device)

        def load(name: str) -> Graph:
            return _load(folder / manifest.graph_file(name), manifest, device)

        image_graph = load("image")
        text: nn.Module
        if prompts := manifest.fixed_prompts():
            text = _stored_words(folder / PROMPTS_FILE, prompts)
        else:
            text = _Text(load("text"), folder, manifest)
        x, y, w, h = manifest.box_weights
        coder = InclusiveBoxCoder((x, y, w, h), manifest.scale_clamp)
        super().__init__(
            backbone=_Images(manifest),
            language_backbone=text,
            neck=_Neck(image_graph, manifest.causal),
            head=_Head(manifest.strides),
            anchor_generator=_Anchors(manifest),
            losses=GroundingLosses(matcher=ATSSMatcher(), box_coder=coder),
            postprocessor=GroundingPostprocessor(
                box_coder=coder, **manifest.values(OF_POSTPROCESSOR)
            ),
            pixel_mean=manifest.pixel_mean,
            pixel_std=manifest.pixel_std,
            **manifest.values(OF_MODEL),
        )
        if manifest.mask_size:
            self.mask_head = ExportedMasks(load("mask"), manifest)
        if manifest.answers:
            self.vqa_head = ExportedAnswers(load("answer"), manifest)
        if manifest.writes:
            self.caption_head = ExportedCaptions(load("reading"), load("caption"), manifest)
        if manifest.ranks:
            self.contrast = ExportedContrast(load("regions"), load("names"))
            self.name_embeddings = NameEmbeddings(text, self.contrast)
        self.manifest = manifest
        self.vocabulary_prompts = prompts
        self.eval().to(device)

    def train(self, mode: bool = True) -> "ExportedGLIP":
        if mode:
            raise ExportError("an exported model cannot be trained: train the model itself")
        super().train(False)
        return self

    def level_sizes(self, features: list[torch.Tensor]) -> list[tuple[int, int]]:
        """See GLIP.level_sizes; the features of an export are its padded images."""
        return _level_sizes(features[0], self.manifest.strides)

    def text_features(self, tokens: TokenizedPrompts) -> TextFeatures:
        """See GLIP.text_features; what was learned about a prompt is in the export's words."""
        return self.text_cache.encode(tokens).with_exemplars(tokens)

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """See GLIP.forward, in evaluation mode."""
        return super().forward(batched_inputs)


class _Images(Backbone):
    """In place of the backbone, which is a part of the graph: hands over the images."""

    def __init__(self, manifest: Manifest):
        super().__init__()
        self._manifest = manifest

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"images": images}

    @property
    def size_divisibility(self) -> int:
        return self._manifest.size_divisibility

    def output_shape(self) -> dict[str, ShapeSpec]:
        """The levels that the graph predicts on."""
        strides = self._manifest.strides
        return {f"level{i}": ShapeSpec(stride=stride) for i, stride in enumerate(strides)}


class _Neck(nn.Module):
    """The graph, from images and the words of their prompts to predictions and fused words."""

    def __init__(self, graph: Graph, takes_causal: bool):
        super().__init__()
        self.graph = graph
        self.takes_causal = takes_causal

    def forward(
        self, images: list[torch.Tensor], text: TextFeatures
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Of B pairs of image and prompt: the images with what is predicted of them, in place of
        the fused levels, which come behind it where there are masks; and the fused words, in
        exports of 0.1 the words as they were."""
        causal = _causal(text) if self.takes_causal else ()
        outputs = self.graph(images[0], text.hidden, text.mask, *causal)
        words = outputs[3] if len(outputs) > 3 else text.hidden
        return [images[0], *outputs[:3], *outputs[4:]], words


class _Head(nn.Module):
    """In place of the head, which is a part of the graph."""

    def __init__(self, strides: Sequence[int]):
        super().__init__()
        self.strides = strides
        self.num_levels = len(strides)
        self.box_scales = [1.0] * len(strides)  # those of the model are in the graph

    def forward(self, predictions: list[torch.Tensor], words: torch.Tensor) -> GroundingOutput:
        """Of B pairs of image and prompt."""
        images, logits, deltas, centerness, *_ = predictions
        return GroundingOutput(logits, deltas, centerness, _level_sizes(images, self.strides))


def _causal(text: TokenizedPrompts | TextFeatures) -> tuple[torch.Tensor]:
    """The last input of the image and text graphs of a model that writes captions."""
    return (torch.zeros_like(text.mask[:, 0]) if text.causal is None else text.causal,)


class _Anchors(DefaultAnchorGenerator):
    """The anchors of the exported model, from its images."""

    def __init__(self, manifest: Manifest):
        levels = len(manifest.strides)
        super().__init__(
            sizes=[[1.0]] * levels,
            aspect_ratios=[[1.0]],
            strides=manifest.strides,
            offset=manifest.anchor_offset,
        )
        self.cell_anchors = BufferList([torch.tensor([cell]) for cell in manifest.cell_anchors])

    def forward(self, images: list[torch.Tensor]) -> list[Boxes]:
        (image,) = images
        sizes = _level_sizes(image, self.strides)
        return super().forward([image.new_empty(()).expand(1, 1, *size) for size in sizes])


def _level_sizes(images: torch.Tensor, strides: Sequence[int]) -> list[tuple[int, int]]:
    """Rows and columns of the levels of padded images; coarser levels round up."""
    height, width = images.shape[-2:]
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


class _Text(nn.Module):
    """The language backbone's part."""

    def __init__(self, graph: Graph, folder: Path, manifest: Manifest):
        super().__init__()
        path = folder / TOKENIZER_FOLDER
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise ExportError(f"the export '{folder}' has no usable tokenizer: {error}") from error
        self.tokenizer = PromptTokenizer(tokenizer, manifest.max_tokens, manifest.mask_token_id)
        self.takes_causal = manifest.causal
        self.graph = graph

    def forward(self, tokens: TokenizedPrompts) -> TextFeatures:
        if tokens.causal is not None and not self.takes_causal:
            raise PromptError(
                "this export is of a model without a caption head and does not read captions word "
                "by word: ask for the phrases of a sentence (Prompt.from_caption, Prompt.parse)"
            )
        causal = _causal(tokens) if self.takes_causal else ()
        words = self.graph(tokens.input_ids, tokens.mask, *causal)[0]
        return TextFeatures(words, words, tokens.mask, tokens.causal, tokens.seen_by_image)


def _stored_words(path: Path, prompts: Sequence[Prompt]) -> FrozenVocabulary:
    """The words of an export for fixed prompts."""
    if not path.is_file():
        raise ExportError(f"the file '{path}' of the export is missing: export the model again")
    stored = load_file(path)
    words, maps = (
        [stored[f"{i}.{name}"] for i in range(len(prompts))] for name in ("words", "positive_map")
    )
    tokenizer = FrozenTokenizer(prompts, maps)
    vocabulary = FrozenVocabulary(model=tokenizer, channels=words[0].shape[1], frozen=True)
    vocabulary.words.copy_(torch.cat(words))
    return vocabulary


def _load(path: Path, manifest: Manifest, device: str) -> Graph:
    if not path.is_file():
        raise ExportError(f"the file '{path}' of the export is missing: export the model again")
    if package := RUNTIMES.get(manifest.format):
        require(package)
    try:
        if manifest.format == "torch":
            return _torch_graph(path, device)
        return _array_graph(path, device)
    except ExportError:
        raise
    except Exception as error:  # of half a dozen types, by what is damaged
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(
            f"'{path}' cannot be read ({reason[:200]}): it is damaged, or was written by a newer "
            "version of what reads it; export the model again"
        ) from error


def _torch_graph(path: Path, device: str) -> Graph:
    program = torch.export.load(path)
    if device != "cpu":
        program = move_to_device_pass(program, device)
    module = program.module()
    if device == "cpu":
        _use_own_deform_conv(module)

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = module(*tensors)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(x.float() for x in outputs)  # autocast's are of its type

    return run


def _use_own_deform_conv(module: torch.fx.GraphModule) -> None:
    """Put this package's deformable convolution, several times faster on CPU, into a graph."""
    for node in module.graph.nodes:
        if node.target is torch.ops.torchvision.deform_conv2d.default:
            x, weight, offset, mask, bias, stride = node.args[:6]
            node.target = modulated_deform_conv2d
            node.args = (x, offset, mask, weight, bias, stride)
    module.recompile()


def _array_graph(path: Path, device: str) -> Graph:
    graph = open_graph(path, cuda=device.startswith("cuda"))
    kind = torch.device(device).type

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        options: dict[str, str] = {}
        if torch.is_autocast_enabled(kind):
            asked = torch.get_autocast_dtype(kind)
            if path.suffix == ".onnx" or asked != torch.bfloat16:
                raise ExportError(
                    f"'{path}' does not run in {asked}: ONNX exports run in fp32, OpenVINO's in "
                    "fp32 and bf16 (glip export --format openvino)"
                )
            options = {"precision": "bf16"}
        arrays = graph(
            *(np.ascontiguousarray(tensor.cpu().numpy()) for tensor in tensors), **options
        )
        return tuple(torch.from_numpy(x).to(tensors[0].device) for x in arrays)

    return run
