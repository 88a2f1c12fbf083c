"""Operands of a deformable convolution, and torchvision's form of it."""

import torch
from torchvision.ops import deform_conv2d

NAMES = ("x", "offset", "mask", "weight", "bias")
CHANNELS, OUT = 6, 5


def operands(height, width, stride, offsets, batch=2):
    generator = torch.Generator().manual_seed(height * 100 + width * 10 + stride)
    out_h, out_w = (height + stride - 1) // stride, (width + stride - 1) // stride

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    offset = normal(batch, 18, out_h, out_w)
    if offsets == "zero":  # the start of training: exactly on the grid, where the slopes jump
        offset = torch.zeros_like(offset)
    elif offsets == "far":  # most taps lie outside, some by far more than the map's size
        offset = offset * 4 * max(height, width)
    else:
        offset = 1.5 * offset
    tensors = (
        normal(batch, CHANNELS, height, width),
        offset,
        normal(batch, 9, out_h, out_w).sigmoid(),
        normal(OUT, CHANNELS, 3, 3) / 7,
        normal(OUT),
    )
    return [t.requires_grad_() for t in tensors]


def torchvision_form(x, offset, mask, weight, bias, stride):
    return deform_conv2d(x, offset, weight, bias, stride, padding=1, mask=mask)
