"""CLIP's image towers, from timm: as Detectron2 backbones ("How Much Can CLIP Benefit
Vision-and-Language Tasks?", Shen et al. 2022), and whole, as CLIP itself has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from timm.layers import LayerNorm2d
from timm.utils.model import freeze_batch_norm_2d
from torch import nn

from ...config import load_model_config
from ..weights import WEIGHTS_REGISTRY

__all__ = [
    "ClipImageEncoder",
    "ClipResNetBackbone",
    "ClipViTBackbone",
    "initialize_as_clip",
]

_STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class _ClipBackbone(Backbone):
    """What both towers share: the names of the maps, and images of any size."""

    def _set_features(self, out_features: Sequence[str], channels: dict[str, int]) -> None:
        self._out_features = list(out_features)
        self._out_feature_channels = channels
        self._out_feature_strides = _STRIDES

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """For yacs users: the tower of the LazyConfig that MODEL.GLIP.CONFIG names."""
        node = load_model_config(cfg.MODEL.GLIP.CONFIG).backbone.bottom_up
        return {key: value for key, value in node.items() if key != "_target_"}

    @property
    def size_divisibility(self) -> int:
        return max(_STRIDES.values())

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        """Zeros at the right and the bottom: both towers round odd sizes down by themselves."""
        height, width = x.shape[-2:]
        return F.pad(x, (0, -width % self.size_divisibility, 0, -height % self.size_divisibility))


def _check_arguments(name: str, pattern: str, out_features: Sequence[str]) -> None:
    known = timm.list_models(pattern)
    if name not in known:
        raise ValueError(f"'{name}' is none of timm's CLIP towers {', '.join(known)}")
    unknown = set(out_features) - set(_STRIDES)
    if unknown:
        raise ValueError(f"out_features {sorted(unknown)} are not among {list(_STRIDES)}")


@BACKBONE_REGISTRY.register()
class ClipResNetBackbone(_ClipBackbone):
    """CLIP's ResNet (Radford et al. 2021) without its attention pooling; stages "res2".."res5".

    Three convolutions as stem, average pooling before the strided layers. BatchNorm is frozen, as
    is usual for a pre-trained ResNet in detection. Wants RGB with CLIP's mean and deviation.

    Args:
        name: timm's name, "resnet50_clip", "resnet101_clip", "resnet50x4_clip", ...
        out_features: which of "res2", "res3", "res4", "res5" are returned.
        frozen_stages: -1 freezes nothing, 0 the stem, n also the first n stages.
        use_checkpoint: recompute the stages' activations in the backward pass to save memory.
        pretrained: CLIP weights to start from: a file of OpenAI or OpenCLIP, with or without the
            text side, or of timm; or the name of a timm model with its tag
            ("resnet50_clip.openai"), which timm fetches; None: random.
    """

    @configurable
    def __init__(
        self,
        *,
        name: str = "resnet50_clip",
        out_features: Sequence[str] = ("res3", "res4", "res5"),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
        pretrained: str | None = None,
    ):
        super().__init__()
        _check_arguments(name, "resnet*_clip", out_features)
        # A frozen scale of 0 would leave a block out for good, if its weights are never loaded.
        trunk = _tower(name, zero_init_last=False)
        trunk.head = nn.Identity()
        self.trunk = freeze_batch_norm_2d(trunk)
        self.trunk.set_grad_checkpointing(use_checkpoint)
        channels = [info["num_chs"] for info in trunk.feature_info[1:]]  # [0] is the stem
        self._set_features(out_features, dict(zip(_STRIDES, channels, strict=True)))
        if pretrained:
            _load_pretrained(self.trunk, pretrained, name)
        if frozen_stages >= 0:
            for part in (self.trunk.stem, *self.trunk.stages[:frozen_stages]):
                part.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) normalized image, padded to multiples of 32 where it has others ->
        {name: (B, C, H / stride, W / stride)}."""
        maps = self.trunk.forward_intermediates(
            self._pad(x), indices=[1, 2, 3, 4], intermediates_only=True
        )
        by_name = dict(zip(_STRIDES, maps, strict=True))
        return {name: by_name[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
class ClipViTBackbone(_ClipBackbone):
    """CLIP's vision transformer, with the scales of ViTDet's simple feature pyramid on top.

    The tower gives one map, after its last LayerNorm, without the class token. "res3".."res5" are
    made of it by transposed convolutions and max pooling, each scale by itself (Li et al. 2022,
    arXiv 2203.16527); the convolutions that ViTDet puts behind them are those of the FPN. Attention
    is global in every block, and position embeddings are interpolated to the image's size. Wants
    RGB with CLIP's mean and deviation.

    Args:
        name: timm's name. OpenAI's weights need "quickgelu" in it: their activation is another one,
            which no file tells. The patch side must be a power of 2.
        out_features: which of "res2", "res3", "res4", "res5" (strides 4, 8, 16, 32) are returned.
        frozen_blocks: -1 freezes nothing, 0 the embeddings, n also the first n blocks.
        use_checkpoint: recompute the blocks' activations in the backward pass to save memory.
        pretrained: CLIP weights to start from: a file of OpenAI or OpenCLIP, with or without the
            text side, or of timm; or the name of a timm model with its tag
            ("resnet50_clip.openai"), which timm fetches; None: random.
    """

    @configurable
    def __init__(
        self,
        *,
        name: str = "vit_base_patch16_clip_quickgelu_224",
        out_features: Sequence[str] = ("res3", "res4", "res5"),
        frozen_blocks: int = -1,
        use_checkpoint: bool = False,
        pretrained: str | None = None,
    ):
        super().__init__()
        _check_arguments(name, "vit_*_clip_*", out_features)
        self.trunk = _tower(name, dynamic_img_size=True)
        self.trunk.set_grad_checkpointing(use_checkpoint)
        patch = self.trunk.patch_embed.patch_size[0]
        if patch not in _STRIDES.values():
            raise ValueError(
                f"'{name}' has patches of {patch} pixels; strides of 8, 16 and 32 cannot be made "
                "of them. Choose a tower with patches of 16 or 32."
            )
        pyramid = {n: _Rescale(self.trunk.embed_dim, patch, _STRIDES[n]) for n in out_features}
        self._set_features(out_features, {n: scale.channels for n, scale in pyramid.items()})
        self.pyramid = nn.ModuleDict(pyramid)
        if pretrained:
            _load_pretrained(self.trunk, pretrained, name)
        if frozen_blocks >= 0:
            trunk = self.trunk
            embeddings = (trunk.patch_embed, trunk.cls_token, trunk.pos_embed, trunk.norm_pre)
            for part in (*embeddings, *trunk.blocks[:frozen_blocks]):
                part.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) normalized image, padded to multiples of 32 where it has others ->
        {name: (B, C, H / stride, W / stride)}."""
        (features,) = self.trunk.forward_intermediates(
            self._pad(x), indices=1, norm=True, intermediates_only=True
        )
        return {name: self.pyramid[name](features) for name in self._out_features}


class ClipImageEncoder(nn.Module):
    """CLIP's vision transformer with its pooling and its projection into the common space.

    Of one size of square images. Wants RGB with CLIP's mean and deviation.

    Args:
        name: timm's name, see `ClipViTBackbone`; patches may have any side.
        image_size: pixels of a side.
        embed_channels: D of the common space.
        sizes: of timm's VisionTransformer in place of the model's own, for one that has no name:
            `{"embed_dim": 192, "depth": 6, "num_heads": 3}`.
        use_checkpoint, pretrained: see `ClipViTBackbone`. Weights of another image size are
            interpolated; the projection is not among them and starts anew.
    """

    def __init__(
        self,
        *,
        name: str = "vit_base_patch16_clip_quickgelu_224",
        image_size: int = 224,
        embed_channels: int = 512,
        sizes: Mapping[str, Any] | None = None,
        use_checkpoint: bool = False,
        pretrained: str | None = None,
    ):
        super().__init__()
        _check_arguments(name, "vit_*_clip_*", ())
        options = {"num_classes": embed_channels, "img_size": image_size, **(sizes or {})}
        self.trunk = _tower(name, **options)
        self.trunk.set_grad_checkpointing(use_checkpoint)
        initialize_as_clip(self.trunk.blocks)
        self.image_size = image_size
        if pretrained:
            head = [f"head.{key}" for key in self.trunk.head.state_dict()]
            _load_pretrained(self.trunk, pretrained, name, optional=head)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.trunk.patch_embed.grid_size

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) normalized images -> tokens of the patches (B, N, C), row by row, after the
        last LayerNorm; the images in the common space (B, D), not normalized."""
        tokens = self.trunk.forward_features(x)
        return tokens[:, self.trunk.num_prefix_tokens :], self.trunk.forward_head(tokens)


def initialize_as_clip(layers: nn.ModuleList) -> None:
    """Draw the weights of a tower's layers as CLIP does those of its text, in proportion to the
    width C: a small tower begins with all images, or texts, alike where they are drawn as for BERT.

    Their deviation is C ** -0.5, of what is added to the layer's input less by (2 * layers) ** 0.5.
    """
    for weight in layers.parameters():
        if weight.ndim == 2:
            width = min(weight.shape)
            added = len(weight) == width
            nn.init.normal_(weight, std=(width * (2 * len(layers) if added else 1)) ** -0.5)


def _tower(name: str, num_classes: int = 0, **options) -> Any:
    return timm.create_model(name, num_classes=num_classes, **options)


def _load_pretrained(
    trunk: nn.Module, source: str, name: str, optional: Sequence[str] = ()
) -> None:
    WEIGHTS_REGISTRY.get("load_pretrained")(
        trunk,
        source,
        optional=optional,
        remedy="set `name` to the timm model of these weights (timm.list_models('*clip*')), or "
        f"take the weights of {name}",
    )


class _Rescale(nn.Sequential):
    """From one stride to another: doublings halve the channels, halvings are max pooling."""

    def __init__(self, channels: int, stride: int, wanted: int):
        layers: list[nn.Module] = []
        while stride > wanted:
            if layers:
                layers += [LayerNorm2d(channels), nn.GELU()]
            layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
            channels, stride = channels // 2, stride // 2
        if stride < wanted:
            layers.append(nn.MaxPool2d(wanted // stride))
        super().__init__(*layers)
        self.channels = channels
