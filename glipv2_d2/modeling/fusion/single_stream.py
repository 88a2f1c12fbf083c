"""The fusion neck of CLIP-ViL: words and image are one sequence of one transformer.

"How Much Can CLIP Benefit Vision-and-Language Tasks?" (Shen et al. 2022), the pre-trained model
CLIP-ViL_p: a VisualBERT on the last map of CLIP's image tower.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import ConfigError
from ..text.attention import additive_mask, visible_words
from ..text.bert import build_bert
from ..text.features import TextFeatures

__all__ = ["SingleStreamEncoder"]


class SingleStreamEncoder(nn.Module):
    """The layers of a BERT over the cells of one map and the words, which all see each other.

    A causal text's words see the whole image and the words before them; the cells of a text that is
    not `seen_by_image` see each other only.

    Args:
        model, pretrained: of the encoder whose layers these are, see `BertLanguageBackbone`; that
            of the language backbone, which gives its embeddings alone (`num_layers=0`).
        channels: C, of the map. text_channels: L, of the encoder.
        grid_size: most rows and columns of the map, which have a learnt position each (CLIP-ViL:
            25), for a ResNet; None: the tower has told the positions (ViT).

    Raises:
        ConfigError: `text_channels` is not the encoder's width.
    """

    reads = "hidden"

    def __init__(
        self,
        *,
        model: str,
        pretrained: bool,
        channels: int,
        text_channels: int,
        grid_size: int | None = None,
    ):
        super().__init__()
        body = build_bert(model, pretrained)
        config = body.config
        if config.hidden_size != text_channels:
            raise ConfigError(
                f"model.neck.text_channels is {text_channels}, and '{model}' is "
                f"{config.hidden_size} wide: set it to that"
            )
        self.layers = body.encoder
        self.channels = channels
        self.grid_size = grid_size
        if grid_size is not None:
            self.rows = nn.Parameter(torch.zeros(grid_size, channels))
            self.columns = nn.Parameter(torch.zeros(grid_size, channels))
            for positions in (self.rows, self.columns):
                nn.init.normal_(positions, std=config.initializer_range)
        self.projection = nn.Sequential(
            nn.Linear(channels, text_channels),
            nn.LayerNorm(text_channels, eps=config.layer_norm_eps),
            nn.Dropout(config.hidden_dropout_prob),
        )

    def forward(
        self, features: list[torch.Tensor], text: TextFeatures
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Fuse.

        Args:
            features: the one map (B, C, h, w). text: of the B prompts.

        Returns:
            The fused map (B, L, h, w), in a list, and the fused words (B, T, L).

        Raises:
            ConfigError: it is not one map, of other channels, or larger than `grid_size`.
        """
        self._check(features)
        (grid,) = features
        if self.grid_size is not None:
            height, width = grid.shape[-2:]
            positions = self.rows[:height, None] + self.columns[None, :width]
            grid = grid + positions.permute(2, 0, 1)
        cells = self.projection(grid.flatten(2).transpose(1, 2))
        # The image in front: its sums are in one order for texts of any length.
        sequence = torch.cat([cells, text.hidden.to(cells.dtype)], dim=1)
        mask = additive_mask(joint_attention(cells.shape[1], text), sequence.dtype)
        fused = self.layers(sequence, attention_mask=mask).last_hidden_state
        cells, words = fused.split([cells.shape[1], text.mask.shape[1]], dim=1)
        return [cells.transpose(1, 2).unflatten(2, grid.shape[-2:])], words

    def _check(self, features: list[torch.Tensor]) -> None:
        if len(features) != 1 or features[0].shape[1] != self.channels:
            shown = ", ".join(str(level.shape[1]) for level in features)
            raise ConfigError(
                f"model.neck takes one map of {self.channels} channels, and model.backbone gives "
                f"maps of {shown}: set its out_features to one, and model.neck.channels to that"
            )
        height, width = features[0].shape[-2:]
        if self.grid_size is not None and max(height, width) > self.grid_size:
            raise ConfigError(
                f"the image is a map of {height}x{width} cells, and model.neck.grid_size, of which "
                f"there are positions, is {self.grid_size}: show images smaller "
                "(inference.max_size), or train with a larger one"
            )


def joint_attention(num_cells: int, text: TextFeatures) -> torch.Tensor:
    """(B, N + T, N + T) bool, True where a position (first the N cells, then the words) looks."""
    length = text.mask.shape[1]
    seen = F.pad(text.mask, (num_cells, 0), value=True)[:, None]
    seen = seen.repeat(1, num_cells + length, 1)
    seen[:, num_cells:, num_cells:] = visible_words(text.mask, text.causal)
    if text.seen_by_image is not None:
        seen[:, :num_cells, num_cells:] &= text.seen_by_image[:, None, None]
    return seen
