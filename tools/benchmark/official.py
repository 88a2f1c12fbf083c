"""A GLIP model's weights arranged as the official code computes them: what we measure against.

What the official code (microsoft/GLIP) does and ours does not: project the image to 2048 channels
three times per fusion layer and materialize all attention scores; pad every text to 256 tokens and
encode it anew for every image and every prompt; run each branch of the dynamic head by itself; run
the whole model, backbone too, for every chunk of a large vocabulary.

What is left out or not the original's: `cls_logits`, a convolution whose output nothing reads (0.06
% of the work); the language backbone is the installed transformers' BERT, padded to 256 tokens;
post-processing is ours.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling.postprocessing import detector_postprocess
from torch import nn
from torch.utils.checkpoint import checkpoint

from glipv2_d2.errors import ConfigError, PromptError
from glipv2_d2.language import Prompt, TokenizedPrompts
from glipv2_d2.language.positive_map import ClassMap
from glipv2_d2.modeling.boxes import to_inclusive
from glipv2_d2.modeling.heads import GroundingOutput
from glipv2_d2.modeling.losses import GroundingTargets
from glipv2_d2.modeling.postprocessing import Asked

from .official_layers import OfficialDynamicConv, OfficialFusion, OfficialTextLayer
from .official_vision import OfficialBackbone

# Of activations in training: none, the fusion layers (official GLIP-T), whole blocks (as ours).
CHECKPOINTING = ("none", "fusion", "block")


class _Text(nn.Module):
    def __init__(self, source: nn.Module):
        super().__init__()
        self.source = source

    def forward(self, tokens: TokenizedPrompts) -> torch.Tensor:
        """Padded tokens (B, T) -> hidden states (B, T, L)."""
        return self.source(tokens).hidden


class _Block(nn.Module):
    def __init__(self, source: nn.Module):
        super().__init__()
        self.fusion = OfficialFusion(source.fusion)
        self.text_layer = OfficialTextLayer(source.text_layer)
        self.dynamic_conv = OfficialDynamicConv(source.dynamic_conv)

    def forward(self, levels, words, mask):
        levels, words = self.fusion(levels, words, mask)
        return self.dynamic_conv(levels), self.text_layer(words, mask)


class _Neck(nn.Module):
    def __init__(self, source: nn.Module):
        super().__init__()
        self.blocks = nn.ModuleList(_Block(block) for block in source.blocks)
        self.checkpointing = "none"

    def forward(self, levels, words, mask):
        for block in self.blocks:
            block.fusion.use_checkpoint = self.checkpointing == "fusion"
            if self.checkpointing == "block" and self.training:
                levels, words = checkpoint(block, levels, words, mask, use_reentrant=False)
            else:
                levels, words = block(levels, words, mask)
        return levels, words


class _Head(nn.Module):
    def __init__(self, source: nn.Module):
        super().__init__()
        self.source = source

    def forward(self, levels: list[torch.Tensor], words: torch.Tensor) -> GroundingOutput:
        source = self.source
        with torch.autocast(words.device.type, enabled=False):
            levels, words = [level.float() for level in levels], words.float()
            words = F.normalize(words, p=2, dim=-1)
            tokens = source.text_projection(words / 2.0)
            bias = torch.matmul(words, source.bias_lang) + source.bias0
            logits, deltas, centerness = [], [], []
            for level, scale in zip(levels, source.box_scales):
                deltas.append(_flat(source.bbox_pred(level) * scale))
                centerness.append(_flat(source.centerness(level)))
                queries = _flat(level)
                repeated = bias[:, None].repeat(1, queries.shape[1], 1)
                product = torch.matmul(queries, tokens.transpose(-1, -2))
                product = product / source.log_scale.exp() + repeated
                product = torch.clamp(product, max=source.max_logit)
                logits.append(torch.clamp(product, min=-source.max_logit))
        return GroundingOutput(
            logits=torch.cat(logits, dim=1),
            deltas=torch.cat(deltas, dim=1),
            centerness=torch.cat(centerness, dim=1)[..., 0],
            level_sizes=[tuple(level.shape[-2:]) for level in levels],
        )


def _flat(level: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w) -> (B, h * w, K)."""
    return level.permute(0, 2, 3, 1).reshape(len(level), -1, level.shape[1])


class OfficialArrangement(nn.Module):
    """The official order of computation on the parameters of a GLIP model (shared, not copied).

    Called like the model itself: losses in training, `[{"instances": Instances}]` otherwise, for
    inputs that bring their prompts. The names of its parts (`backbone`, `neck.blocks.0.fusion`)
    are the model's.

    Args:
        model: a GLIP with deep fusion (VLTower).
        checkpointing: see CHECKPOINTING.

    Raises:
        ConfigError: a model without fusion, or whose words read positions; an unknown
            `checkpointing`.
    """

    def __init__(self, model: nn.Module, checkpointing: str = "none"):
        super().__init__()
        blocks = getattr(model.neck, "blocks", ())
        if not len(blocks) or not hasattr(blocks[0], "fusion"):
            raise ConfigError(
                f"the model's neck is a {type(model.neck).__name__} without fusion: the benchmark "
                "compares deep fusion; use a config such as pretrain/glip_t.py"
            )
        if model.neck.positions:
            raise ConfigError(
                "the words of this model read positions, which no official model does: compare one "
                "with model.neck.positions=False, or leave the comparison out"
            )
        self.model = model
        self.backbone = OfficialBackbone(model.backbone)
        self.language_backbone = _Text(model.language_backbone)
        self.neck = _Neck(model.neck)
        self.head = _Head(model.head)
        self.train(model.training)
        self.set_checkpointing(checkpointing)

    @property
    def postprocessor(self):
        return self.model.postprocessor

    def set_checkpointing(self, mode: str) -> None:
        """What is recomputed in the backward pass, see CHECKPOINTING."""
        if mode not in CHECKPOINTING:
            raise ConfigError(f"checkpointing is one of {', '.join(CHECKPOINTING)}, not {mode!r}")
        self.neck.checkpointing = mode

    def forward(self, batched_inputs: list[dict]) -> "dict[str, torch.Tensor] | list[dict]":
        """See GLIP.forward; every image must bring the same number of prompts."""
        prompts = [_prompts_of(x) for x in batched_inputs]
        if len({len(asked) for asked in prompts}) != 1:
            raise PromptError(
                "the official code takes one prompt per image at a time: give every image the "
                "same number of prompts"
            )
        images = self.model.preprocess_image(batched_inputs)
        if self.training:
            return self._losses(batched_inputs, images, [asked[0] for asked in prompts])
        found: list[list] = [[] for _ in batched_inputs]
        for chunk in zip(*prompts):
            for row, detections in enumerate(self._detect(images, chunk)):
                found[row].append(detections)
        results = []
        for x, parts, asked, size in zip(batched_inputs, found, prompts, images.image_sizes):
            merged = self.postprocessor.merge(parts)
            instances = self.postprocessor.to_instances(merged, asked, size)
            height, width = x.get("height", size[0]), x.get("width", size[1])
            results.append({"instances": detector_postprocess(instances, height, width)})
        return results

    def _ground(self, images, tokens: TokenizedPrompts):
        levels = self.backbone(images.tensor)
        words = self.language_backbone(tokens)
        return levels, self.head(*self.neck(levels, words, tokens.mask.long()))

    def _tokens(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        """The prompts padded to the longest text the language backbone takes (256)."""
        tokenizer = self.model.tokenizer
        tokens = tokenizer(prompts)
        padding = (0, tokenizer.max_tokens - tokens.mask.shape[1])
        return TokenizedPrompts(
            input_ids=F.pad(tokens.input_ids, padding, value=tokenizer.pad_token_id),
            mask=F.pad(tokens.mask, padding, value=False),
            positive_maps=[F.pad(m, padding, value=False) for m in tokens.positive_maps],
        ).to(self.model.device)

    def _detect(self, images, prompts: Sequence[Prompt]) -> list:
        """Detections of each image for one prompt each."""
        tokens = self._tokens(prompts)
        levels, output = self._ground(images, tokens)
        anchors = self.model.anchors(levels)
        return [
            self.postprocessor.detect(
                output.logits[row : row + 1],
                output.deltas[row : row + 1],
                output.centerness[row : row + 1],
                anchors,
                [Asked(ClassMap.build(prompt, tokens.positive_maps[row]), images.image_sizes[row])],
            )[0]
            for row, prompt in enumerate(prompts)
        ]

    def _losses(self, batched_inputs, images, prompts) -> dict[str, torch.Tensor]:
        tokens = self._tokens(prompts)
        levels, output = self._ground(images, tokens)
        instances = [x["instances"].to(self.model.device) for x in batched_inputs]
        targets = GroundingTargets(
            boxes=[to_inclusive(i.gt_boxes.tensor) for i in instances],
            tokens=[m[i.gt_classes] for m, i in zip(tokens.positive_maps, instances)],
            mask=tokens.mask,
            regressed=torch.ones_like(tokens.mask[:, 0]),
        )
        return self.model.losses(output, self.model.anchors(levels), targets)


def _prompts_of(batched_input: dict) -> list[Prompt]:
    prompt = batched_input.get("prompt")
    if prompt is None:
        raise PromptError('the official arrangement has no vocabulary: give each input a "prompt"')
    return [prompt] if isinstance(prompt, Prompt) else list(prompt)
