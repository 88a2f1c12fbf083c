"""Stacked hourglasses (Newell et al. 2016) on RoI features: GLIPv2's mask features (Appendix D.1).

The paper gives "scales", "layers" and the width. What they mean is taken from the fragment in the
official GLIP repository (roi_heads/mask_head/hourglass.py): `num_scales` is the depth of each
hourglass, how often it halves the resolution; `num_layers` is the number of hourglasses one after
another, each followed by a ReLU. There the residual units have no normalization unless asked for.
"""

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import nn

__all__ = ["Hourglass", "StackedHourglass"]


class Residual(nn.Module):
    """Newell's pre-activation bottleneck: ReLU and convolution thrice (1x1, 3x3, 1x1), plus x."""

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.conv1 = _conv(channels, inner, 1)
        self.conv2 = _conv(inner, inner, 3)
        self.conv3 = _conv(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv1(F.relu(x))
        out = self.conv2(F.relu(out))
        return x + self.conv3(F.relu(out))


class Hourglass(nn.Module):
    """Two paths that are added: one at the full resolution, one through half of it and back.

    Args:
        num_scales: how often the resolution is halved.
        channels: of input and output.
    """

    def __init__(self, num_scales: int, channels: int):
        super().__init__()
        self.full = Residual(channels)
        self.enter = Residual(channels)
        deepest = num_scales == 1
        self.inner = Residual(channels) if deepest else Hourglass(num_scales - 1, channels)
        self.leave = Residual(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(R, C, h, w) -> (R, C, h, w); h and w of any size that can be halved so often."""
        half = self.leave(self.inner(self.enter(F.max_pool2d(x, 2))))
        # To the size rather than by the factor 2: 14 x 14 is 7 x 7 once halved, and 3 x 3 twice.
        return self.full(x) + F.interpolate(half, size=x.shape[-2:], mode="nearest")


class StackedHourglass(nn.Module):
    """`num_layers` hourglasses, each followed by a ReLU.

    GLIPv2-T and B: 1 scale, 1 layer, 256 channels; GLIPv2-H: 2 scales, 4 layers, 384 channels.

    A unit adds to what it is given, and an hourglass adds a path for each of its scales: features
    leave T's and B's at random 3 times larger, and H's hundreds of times, with a mask head's loss
    of 400 at the start instead of 0.7. `norm` bounds the sum of each hourglass, and lets the units
    begin as identities. On a small task that T's hourglass learned in 150 steps, a stack of H's
    depth learned with both, hardly with the units' convolutions normalized too (the fragment's
    option), and not at all normalized but random.

    Args:
        in_channels: of the RoI features; where they are not `channels`, a 1x1 convolution goes
            first.
        num_scales, channels: of each `Hourglass`.
        num_layers: how many.
        norm: of what comes out of each hourglass, before the ReLU, as Detectron2 names it ("GN");
            "": none, and the units begin at random.
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
        self.reduce = nn.Identity() if same else _conv(in_channels, channels, 1)
        self.layers = nn.ModuleList(Hourglass(num_scales, channels) for _ in range(num_layers))
        self.norms = nn.ModuleList(_norm(norm, channels) for _ in range(num_layers))
        if norm:
            for part in self.modules():
                if isinstance(part, Residual):  # begins as the identity
                    nn.init.zeros_(part.conv3.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(R, in_channels, h, w) -> (R, channels, h, w)."""
        x = self.reduce(x)
        for layer, norm in zip(self.layers, self.norms):
            x = F.relu(norm(layer(x)))
        return x


def _norm(name: str, channels: int) -> nn.Module:
    try:
        return get_norm(name, channels) or nn.Identity()
    except KeyError:
        raise ValueError(
            f"norm={name!r} is none of Detectron2's normalizations; the hourglass of GLIPv2-H has "
            '"GN", and "" is none'
        ) from None


def _conv(in_channels: int, out_channels: int, size: int) -> Conv2d:
    conv = Conv2d(in_channels, out_channels, size, padding=size // 2)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    return conv
