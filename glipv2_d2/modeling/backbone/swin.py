"""Swin Transformer as a Detectron2 backbone, from timm's parts.

timm supplies the patch embedding, window attention, MLP, stochastic depth and patch merging. The
block is ours for one reason: detection feeds maps of any size, and the official Swin pads a map
*before* it shifts the windows, timm after; the released GLIP weights were trained with the former.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from timm.layers import DropPath, Mlp, PatchEmbed
from timm.models.swin_transformer import (
    PatchMerging,
    WindowAttention,
    window_partition,
    window_reverse,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...config import load_model_config
from ..blocks import block_rows
from ..weights import WEIGHTS_REGISTRY

__all__ = ["SwinBackbone"]

# Added to the attention of two pixels of one shifted window that were not neighbors before the
# shift.
_NOT_NEIGHBORS = -100.0


def _ceil_to(size: int, multiple: int) -> int:
    return (size + multiple - 1) // multiple * multiple


def shifted_window_mask(
    height: int, width: int, window: int, shift: int, device: torch.device
) -> torch.Tensor:
    """Additive mask (windows, window², window²) of a rolled map; its sides divide by `window`."""

    def region(size: int) -> torch.Tensor:
        position = torch.arange(size, device=device)
        part = (position >= size - window).long() + (position >= size - shift).long()
        return part.unflatten(0, (-1, window))

    rows, columns = region(height), region(width)  # (windows in a column or row, window)
    regions = rows[:, None, :, None] * 3 + columns[None, :, None, :]
    regions = regions.flatten(0, 1).flatten(1)
    differ = regions[:, :, None] != regions[:, None, :]
    return differ.float() * _NOT_NEIGHBORS


class SwinBlock(nn.Module):
    """One (shifted) window attention block on a (B, H, W, C) map of any size."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        shift_size: int,
        mlp_ratio: float,
        drop_path: float,
    ):
        super().__init__()
        self.window_size = window_size
        self.shift_size = shift_size
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads=num_heads, window_size=window_size)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.hidden_features = int(dim * mlp_ratio)
        self.mlp = Mlp(dim, hidden_features=self.hidden_features)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """`mask`: of the stage's padded, rolled map; used by blocks that shift."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask if self.shift_size else None))
        return x + self.drop_path(self._feed_forward(x))

    def _feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, _ = x.shape
        x = x.view(batch, height * width, -1)
        blocks = x.split(block_rows(x, self.hidden_features, *self.parameters()), dim=1)
        x = torch.cat([self.mlp(self.norm2(block)) for block in blocks], dim=1)
        return x.view(batch, height, width, -1)

    def _attend(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        batch, height, width, channels = x.shape
        window, shift = self.window_size, self.shift_size
        padded_h, padded_w = _ceil_to(height, window), _ceil_to(width, window)
        # Zeros added after norm1 take part in the attention, unmasked: as the official model does.
        x = F.pad(x, (0, 0, 0, padded_w - width, 0, padded_h - height))
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        windows = window_partition(x, (window, window))
        windows = windows.view(batch, -1, window * window, channels)
        windows = self._window_attention(windows, mask).view(-1, window, window, channels)
        x = window_reverse(windows, (window, window), padded_h, padded_w)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]

    def _window_attention(self, windows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, windows, window², C) -> the same; `mask` (windows, window², window²)."""
        batch, count, area, channels = windows.shape
        # Per token: query, key and value, and the scores of each head.
        width = area * (3 * channels + area * self.attn.num_heads)
        block = block_rows(windows, width, *self.attn.parameters())
        masks = [None] * -(-count // block) if mask is None else mask.split(block)
        attended = [
            self.attn(part.flatten(0, 1), mask=part_mask).unflatten(0, (batch, -1))
            for part, part_mask in zip(windows.split(block, dim=1), masks)
        ]
        return torch.cat(attended, dim=1)


class SwinStage(nn.Module):
    """`depth` blocks that alternate plain and shifted windows; then patch merging, if any."""

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window_size: int,
        mlp_ratio: float,
        drop_path: Sequence[float],
        downsample: bool,
        use_checkpoint: bool,
    ):
        super().__init__()
        self.window_size = window_size
        self.use_checkpoint = use_checkpoint
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim,
                num_heads,
                window_size,
                0 if i % 2 == 0 else window_size // 2,
                mlp_ratio,
                drop_path[i],
            )
            for i in range(depth)
        )
        self.downsample = PatchMerging(dim, 2 * dim) if downsample else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> the same shape; `downsample` is applied by the caller."""
        window = self.window_size
        mask = shifted_window_mask(
            _ceil_to(x.shape[1], window),
            _ceil_to(x.shape[2], window),
            window,
            window // 2,
            x.device,
        ).to(x.dtype)
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return x


@BACKBONE_REGISTRY.register()
class SwinBackbone(Backbone):
    """Swin (Liu et al. 2021) whose stages come out as Detectron2's "res2".."res5".

    Args:
        embed_dim: channels of the first stage; each further stage has twice as many.
        depths, num_heads: per stage.
        window_size: side of the attention windows, in positions of the stage.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        out_features: which of "res2", "res3", "res4", "res5" are returned. All but "res2" pass
            through a LayerNorm of their own, as in the official GLIP.
        frozen_stages: -1 freezes nothing, 0 the patch embedding, n also the first n stages.
        use_checkpoint: recompute the blocks' activations in the backward pass to save memory.
        pretrained: ImageNet weights to start from: a file of the Swin authors, or the name of a
            timm model, which timm fetches; None: random; False: random, and `glip train` does not
            warn of it.
    """

    @configurable
    def __init__(
        self,
        *,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.2,
        out_features: Sequence[str] = ("res3", "res4", "res5"),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
        pretrained: str | bool | None = None,
    ):
        super().__init__()
        names = [f"res{i + 2}" for i in range(len(depths))]
        unknown = set(out_features) - set(names)
        if unknown:
            raise ValueError(f"out_features {sorted(unknown)} are not among this Swin's {names}")
        self.frozen_stages = frozen_stages
        self._out_features = list(out_features)
        self._out_feature_channels = {n: embed_dim * 2**i for i, n in enumerate(names)}
        self._out_feature_strides = {n: 4 * 2**i for i, n in enumerate(names)}
        self.patch_embed: nn.Module = PatchEmbed(
            img_size=None, patch_size=4, embed_dim=embed_dim, norm_layer=nn.LayerNorm,
            flatten=False, output_fmt="NHWC", dynamic_img_pad=True,
        )  # fmt: skip
        drop_path = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            SwinStage(
                dim=embed_dim * 2**i,
                depth=depth,
                num_heads=num_heads[i],
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                drop_path=[next(drop_path) for _ in range(depth)],
                downsample=i + 1 < len(depths),
                use_checkpoint=use_checkpoint,
            )
            for i, depth in enumerate(depths)
        )
        self.out_norms = nn.ModuleDict(
            {
                n: nn.Identity() if n == "res2" else nn.LayerNorm(self._out_feature_channels[n])
                for n in self._out_features
            }
        )
        self.apply(_init_linear)
        if pretrained:
            self._load_pretrained(pretrained)
        self._freeze()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """For yacs users: the Swin of the LazyConfig that MODEL.GLIP.CONFIG names."""
        node = load_model_config(cfg.MODEL.GLIP.CONFIG).backbone.bottom_up
        return {key: value for key, value in node.items() if key != "_target_"}

    def _load_pretrained(self, source: str | bool) -> None:
        """All but the output norms, which ImageNet does not train."""
        WEIGHTS_REGISTRY.get("load_pretrained")(
            self,
            source,
            optional=[name for name in self.state_dict() if name.startswith("out_norms.")],
            remedy="set model.backbone.bottom_up to the sizes of the Swin of these weights",
        )

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            for parameter in module.parameters():
                parameter.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.patch_embed, *self.stages[: self.frozen_stages]]

    def train(self, mode: bool = True) -> "SwinBackbone":
        """Frozen stages stay in evaluation mode, so that their stochastic depth is off too."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    @property
    def size_divisibility(self) -> int:
        return max(self._out_feature_strides[name] for name in self._out_features)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            n: ShapeSpec(
                channels=self._out_feature_channels[n], stride=self._out_feature_strides[n]
            )
            for n in self._out_features
        }

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) normalized image -> {name: (B, C, H / stride, W / stride)}."""
        outputs: dict[str, torch.Tensor] = {}
        x = self.patch_embed(x)
        for name, stage in zip(self._out_feature_channels, self.stages):
            x = stage(x)
            if name in self.out_norms:
                outputs[name] = self.out_norms[name](x).permute(0, 3, 1, 2)
            if isinstance(stage.downsample, nn.Module):
                x = stage.downsample(x)
        return outputs


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
