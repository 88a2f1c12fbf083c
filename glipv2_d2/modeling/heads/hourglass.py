"""Stacked hourglasses (Newell et al. 2016) on RoI features: GLIPv2's mask features (Appendix D.1).

The paper gives "scales", "layers" and the width. What they mean is taken from the fragment in the
official GLIP repository (roi_heads/mask_head/hourglass.py): `num_scales` is the depth of each
hourglass, how often it halves the resolution; `num_layers` is the number of hourglasses one after
another, each followed by a ReLU. There the residual units have no normalisation.
"""

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import nn

__all__ = ["Hourglass", "StackedHourglass"]


class Residual(nn.Module):
    """Newell's pre-activation bottleneck: ReLU and convolution thrice (1x1, 3x3, 1x1), plus x."""

    def __init__(self, channels: int, norm: str = ""):
        super().__init__()
        inner = channels // 2
        self.conv1 = _conv(channels, inner, 1, norm)
        self.conv2 = _conv(inner, inner, 3, norm)
        self.conv3 = _conv(inner, channels, 1, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv1(F.relu(x))
        out = self.conv2(F.relu(out))
        return x + self.conv3(F.relu(out))


class Hourglass(nn.Module):
    """Two paths that are added: one at the full resolution, one through half of it and back.

    Args:
        num_scales: how often the resolution is halved.
        channels: of input and output.
        norm: of the convolutions, as Detectron2 names it ("GN"); "": none.
    """

    def __init__(self, num_scales: int, channels: int, norm: str = ""):
        super().__init__()
        self.full = Residual(channels, norm)
        self.enter = Residual(channels, norm)
        if num_scales > 1:
            self.inner = Hourglass(num_scales - 1, channels, norm)
        else:
            self.inner = Residual(channels, norm)
        self.leave = Residual(channels, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(R, C, h, w) -> (R, C, h, w); h and w of any size that can be halved so often."""
        half = self.leave(self.inner(self.enter(F.max_pool2d(x, 2))))
        # To the size rather than by the factor 2: 14 x 14 is 7 x 7 once halved, and 3 x 3 twice.
        return self.full(x) + F.interpolate(half, size=x.shape[-2:], mode="nearest")


class StackedHourglass(nn.Module):
    """`num_layers` hourglasses, each followed by a ReLU.

    GLIPv2-T and B: 1 scale, 1 layer, 256 channels; GLIPv2-H: 2 scales, 4 layers, 384 channels.

    Args:
        in_channels: of the RoI features; where they are not `channels`, a 1x1 convolution goes
            first.
        num_scales, channels, norm: of each `Hourglass`.
        num_layers: how many.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int = 256,
        num_scales: int = 1,
        num_layers: int = 1,
        norm: str = "",
    ):
        super().__init__()
        if num_scales < 1 or num_layers < 1:
            raise ValueError(
                f"an hourglass needs num_scales and num_layers of at least 1, got {num_scales} "
                f"and {num_layers}"
            )
        if channels % 2:
            raise ValueError(f"the channels of an hourglass are halved inside, got {channels}")
        self.channels = channels
        same = in_channels == channels
        self.reduce = nn.Identity() if same else _conv(in_channels, channels, 1, "")
        layers = [Hourglass(num_scales, channels, norm) for _ in range(num_layers)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(R, in_channels, h, w) -> (R, channels, h, w)."""
        x = self.reduce(x)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


def _conv(in_channels: int, out_channels: int, size: int, norm: str) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        size,
        padding=size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
