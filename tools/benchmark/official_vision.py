"""Swin and FPN computed as the official GLIP computes them, on the parameters of our modules.

Written anew from the papers and from what the official code computes, as plainly as possible:
scores and softmax of every window are materialized, the bias table is looked up in every call.
"""

import torch
import torch.nn.functional as F
from torch import nn

_NOT_NEIGHBORS = -100.0


def _windows(x: torch.Tensor, size: int) -> torch.Tensor:
    """(B, H, W, C) -> (B * windows, size², C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // size, size, width // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size * size, channels)


def _from_windows(windows: torch.Tensor, size: int, height: int, width: int) -> torch.Tensor:
    """The inverse of `_windows`."""
    x = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, height, width, windows.shape[-1])


def _shift_mask(height: int, width: int, size: int, device: torch.device) -> torch.Tensor:
    """(windows, size², size²): -100 between positions that the shift brought together."""
    regions = torch.zeros((1, height, width, 1), device=device)
    shift = size // 2
    slices = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
    for i, rows in enumerate(slices):
        for j, columns in enumerate(slices):
            regions[:, rows, columns] = 3 * i + j
    regions = _windows(regions, size).squeeze(-1)
    differ = regions[:, None, :] - regions[:, :, None]
    return differ.masked_fill(differ != 0, _NOT_NEIGHBORS)


class _Block(nn.Module):
    def __init__(self, source: nn.Module, num_heads: int):
        super().__init__()
        self.source = source
        self.num_heads = num_heads

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        source, size, shift = self.source, self.source.window_size, self.source.shift_size
        _, height, width, _ = x.shape
        y = source.norm1(x)
        y = F.pad(y, (0, 0, 0, -width % size, 0, -height % size))
        padded = y.shape[1:3]
        if shift:
            y = torch.roll(y, shifts=(-shift, -shift), dims=(1, 2))
        y = self._attend(_windows(y, size), mask if shift else None)
        y = _from_windows(y, size, *padded)
        if shift:
            y = torch.roll(y, shifts=(shift, shift), dims=(1, 2))
        x = x + source.drop_path(y[:, :height, :width].contiguous())
        mlp = source.mlp
        return x + source.drop_path(mlp.fc2(F.gelu(mlp.fc1(source.norm2(x)))))

    def _attend(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        attention, heads = self.source.attn, self.num_heads
        count, length, channels = x.shape
        qkv = attention.qkv(x).reshape(count, length, 3, heads, channels // heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = (query * (channels // heads) ** -0.5) @ key.transpose(-2, -1)
        index = attention.relative_position_index.view(-1)
        bias = attention.relative_position_bias_table[index].view(length, length, heads)
        scores = scores + bias.permute(2, 0, 1).contiguous()
        if mask is not None:
            scores = scores.view(-1, len(mask), heads, length, length) + mask[:, None]
            scores = scores.view(-1, heads, length, length)
        y = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(count, length, channels)
        return attention.proj(y)


class OfficialSwin(nn.Module):
    """Our SwinBackbone's parameters in the official Swin's order of computation.

    Args:
        source: a SwinBackbone; it stays the owner of the parameters.
    """

    def __init__(self, source: nn.Module):
        super().__init__()
        self.source = source
        self.stages = nn.ModuleList(
            nn.ModuleList(_Block(block, block.attn.num_heads) for block in stage.blocks)
            for stage in source.stages
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) -> {"res3": (B, C, H / 8, W / 8), ...}."""
        source = self.source
        projection = source.patch_embed.proj
        patch = projection.kernel_size[0]
        x = F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch))
        x = source.patch_embed.norm(projection(x).permute(0, 2, 3, 1))
        outputs = {}
        for i, (blocks, stage) in enumerate(zip(self.stages, source.stages)):
            size = stage.window_size
            height, width = (side + -side % size for side in x.shape[1:3])
            mask = _shift_mask(height, width, size, x.device)
            for block in blocks:
                x = block(x, mask)
            name = f"res{i + 2}"
            if name in source.out_norms:
                y = source.out_norms[name](x)
                outputs[name] = y.permute(0, 3, 1, 2).contiguous()
            if stage.downsample is not None:
                x = self._merge(x, stage.downsample)
        return outputs

    @staticmethod
    def _merge(x: torch.Tensor, merging: nn.Module) -> torch.Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        quarters = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return merging.reduction(merging.norm(torch.cat(quarters, dim=-1)))


class OfficialBackbone(nn.Module):
    """Swin and FPN; P6 from P5, P7 from relu(P6).

    Args:
        source: Detectron2's FPN over a SwinBackbone; another bottom-up network is used as it is.
    """

    def __init__(self, source: nn.Module):
        super().__init__()
        self.source = source
        swin = hasattr(source.bottom_up, "stages") and hasattr(source.bottom_up, "out_norms")
        self.bottom_up = OfficialSwin(source.bottom_up) if swin else source.bottom_up

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) -> levels P3..P7 (B, C, h, w)."""
        source, bottom_up = self.source, self.bottom_up(x)
        levels, above = [], None
        for name in reversed(source.in_features):
            stage = int(name.removeprefix("res"))
            merged = getattr(source, f"fpn_lateral{stage}")(bottom_up[name])
            if above is not None:
                size = merged.shape[-2:]
                merged = merged + F.interpolate(above, size=size, mode="nearest")
            above = merged
            levels.insert(0, getattr(source, f"fpn_output{stage}")(merged))
        p6 = source.top_block.p6(levels[-1])
        return [*levels, p6, source.top_block.p7(F.relu(p6))]
