"""CLOC's Prompter: an embedding of a region, from an image that was encoded once (Section 3.3)."""

import math

import torch
from torch import nn
from torchvision.ops import roi_align

__all__ = ["BoxHead", "Prompter", "RoIAlignPrompter", "encode_points"]


class Prompter(nn.Module):
    """One transformer layer with one head over the tokens of a prompt and those of the image.

    The prompt is a box, which gives two tokens, or a text, which gives one; it stands before the
    image's tokens. The mean over the prompt's tokens behind the layer is projected into the common
    space of CLIP.

    The paper leaves open, and here it is:

    - the mean is over the tokens of the prompt, which have looked at the image's. Over all of them,
      as "global average" may be read, it is nearly the same for all boxes of an image at first, and
      is learned far more slowly (docs/cloc.md);
    - the layer normalizes first, as CLIP's do, its feed-forward is 4 C wide with GELU, and there is
      a LayerNorm behind it;
    - boxes are relative to the padded square that the tower sees. A corner's token is its
      `encode_points` plus a learned vector that tells top left from bottom right. Each image token
      gets the encoding of its own center, so that one layer can tell which of them are inside;
    - a text's token is a learned projection of its embedding of unit length.

    Args:
        channels: C of the image's tokens, a multiple of 4.
        embed_channels: D of the common space.
    """

    def __init__(self, *, channels: int, embed_channels: int):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            channels,
            nhead=1,
            dim_feedforward=4 * channels,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.norm = nn.LayerNorm(channels)
        self.corner_embedding = nn.Parameter(torch.empty(2, channels))
        self.text_projection = nn.Linear(embed_channels, channels)
        self.projection = nn.Linear(channels, embed_channels, bias=False)
        nn.init.normal_(self.corner_embedding)

    def of_boxes(
        self, tokens: torch.Tensor, grid: tuple[int, int], images: torch.Tensor, boxes: torch.Tensor
    ) -> torch.Tensor:
        """The embeddings (R, D) of boxes, not normalized.

        Args:
            tokens: of B images, (B, N, C), row by row.
            grid: rows and columns of the tokens.
            images: (R,) int64, the image of each box.
            boxes: (R, 4) x0, y0, x1, y1 in 0..1 of the padded square.
        """
        corners = encode_points(boxes.unflatten(1, (2, 2)), tokens.shape[2]).to(tokens.dtype)
        return self._embed(corners + self.corner_embedding, tokens, grid, images)

    def of_texts(
        self, tokens: torch.Tensor, grid: tuple[int, int], images: torch.Tensor, texts: torch.Tensor
    ) -> torch.Tensor:
        """As `of_boxes` of what the texts describe; `texts`: their embeddings (R, D)."""
        return self._embed(self.text_projection(texts)[:, None], tokens, grid, images)

    def _embed(
        self,
        prompt: torch.Tensor,
        tokens: torch.Tensor,
        grid: tuple[int, int],
        images: torch.Tensor,
    ) -> torch.Tensor:
        rows, columns = ((torch.arange(side, device=tokens.device) + 0.5) / side for side in grid)
        centers = torch.cartesian_prod(rows, columns).flip(1)
        tokens = tokens + encode_points(centers, tokens.shape[2]).to(tokens.dtype)
        output = self.layer(torch.cat((prompt, tokens[images]), dim=1))[:, : prompt.shape[1]]
        return self.projection(self.norm(output).mean(dim=1))


class RoIAlignPrompter(nn.Module):
    """RoIAlign in place of the Prompter: the ablation of the paper's Table 2.

    It knows boxes only, so that a model with it has no grounding head.

    Args:
        channels, embed_channels: see `Prompter`.
        resolution: bins of a side, over which the mean is taken.
    """

    def __init__(self, *, channels: int, embed_channels: int, resolution: int = 7):
        super().__init__()
        self.resolution = resolution
        self.projection = nn.Linear(channels, embed_channels, bias=False)

    def of_boxes(
        self, tokens: torch.Tensor, grid: tuple[int, int], images: torch.Tensor, boxes: torch.Tensor
    ) -> torch.Tensor:
        """See `Prompter.of_boxes`."""
        feature_map = tokens.transpose(1, 2).unflatten(2, grid).float()
        height, width = grid
        corners = boxes.float() * boxes.new_tensor([width, height, width, height])
        rois = torch.cat((images[:, None].float(), corners.float()), dim=1)
        bins = roi_align(feature_map, rois, self.resolution, sampling_ratio=2, aligned=True)
        return self.projection(bins.mean(dim=(2, 3)).to(tokens.dtype))


class BoxHead(nn.Sequential):
    """Where the text is that an image was prompted with: a two-layer MLP with GELU (Appendix B.1).

    (R, D) of `Prompter.of_texts` -> boxes (R, 4) x0, y0, x1, y1 in 0..1 of the padded square. The
    sigmoid at its end is chosen here.

    Args:
        embed_channels: D; the hidden layer is as wide.
    """

    def __init__(self, *, embed_channels: int):
        super().__init__(
            nn.Linear(embed_channels, embed_channels),
            nn.GELU(),
            nn.Linear(embed_channels, 4),
            nn.Sigmoid(),
        )


def encode_points(points: torch.Tensor, channels: int) -> torch.Tensor:
    """Sines and cosines of positions in an image (CLOC, Appendix B.1): (..., 2) -> (..., C).

    Half of the channels are of x, half of y. The frequencies, on which the paper is silent, go
    geometrically from half a wave over the image to 8 waves, about what a grid of patches can tell.

    Args:
        points: x, y in 0..1.
        channels: C, a multiple of 4.
    """
    count = channels // 4
    steps = torch.arange(count, device=points.device, dtype=points.dtype) / max(count - 1, 1)
    angles = points[..., None] * (math.pi * 16.0**steps)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).flatten(-2)
