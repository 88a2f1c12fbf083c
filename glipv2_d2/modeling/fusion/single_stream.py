"""The fusion neck of CLIP-ViL: words and image are one sequence of one transformer.

"How Much Can CLIP Benefit Vision-and-Language Tasks?" (Shen et al. 2022), the pre-trained model
CLIP-ViL_p: a VisualBERT on the last map of CLIP's image tower.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import ConfigError
from ..text.attention import KeyValueCache, visible_words
from ..text.bert import CAUSAL_TYPES, bert_layer, build_bert
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
        grid_size: most rows and columns of the map, which have a learned position each (CLIP-ViL:
            25), for a ResNet; None: the tower has told the positions (ViT).

    Raises:
        ConfigError: `text_channels` is not the encoder's width, or it has not BERT's layers.
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
        body: Any = build_bert(model, pretrained)
        config = body.config
        if config.hidden_size != text_channels:
            raise ConfigError(
                f"model.neck.text_channels is {text_channels}, and '{model}' is "
                f"{config.hidden_size} wide: set it to that"
            )
        if config.model_type not in CAUSAL_TYPES:
            raise ConfigError(
                f"model.neck.model is a {config.model_type!r}, whose layers are not BERT's: use "
                f"one of {', '.join(CAUSAL_TYPES)}"
            )
        self.layers: nn.ModuleList = body.encoder.layer
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
        cells = self._cells(features)
        # The image in front: its sums are in one order for texts of any length.
        fused = torch.cat([cells, text.hidden.to(cells.dtype)], dim=1)
        visible = joint_attention(cells.shape[1], text)
        for layer in self.layers:
            fused = bert_layer(layer, fused, visible)
        cells, words = fused.split([cells.shape[1], text.mask.shape[1]], dim=1)
        return [cells.transpose(1, 2).unflatten(2, features[0].shape[-2:])], words

    def read_images(self, features: list[torch.Tensor]) -> KeyValueCache:
        """What a text that the image does not look at reads of it; see `VLTower.read_images`."""
        cells, images = self._cells(features), KeyValueCache()
        visible = torch.ones(1, 1, cells.shape[1], dtype=torch.bool, device=cells.device)
        for layer in self.layers:
            cells = bert_layer(layer, cells, visible, images)
        return images

    def read_on(
        self, words: torch.Tensor, images: KeyValueCache, cache: KeyValueCache
    ) -> torch.Tensor:
        """Fuse more words of causal texts that the images do not look at; see `VLTower.read_on`."""
        visible = F.pad(cache.visible_to(words), (images.length, 0), value=True)
        for layer in self.layers:
            words = bert_layer(layer, words, visible, cache, images)
        return words

    def _cells(self, features: list[torch.Tensor]) -> torch.Tensor:
        """The one map (B, C, h, w) as positions (B, N, L)."""
        self._check(features)
        (grid,) = features
        if self.grid_size is not None:
            height, width = grid.shape[-2:]
            positions = self.rows[:height, None] + self.columns[None, :width]
            grid = grid + positions.permute(2, 0, 1)
        return self.projection(grid.flatten(2).transpose(1, 2))

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
    words = visible_words(text.mask, text.causal)
    length = text.mask.shape[1]
    of_words = F.pad(words.expand(-1, length, -1), (num_cells, 0), value=True)
    of_cells = text.mask[:, None]
    if text.seen_by_image is not None:
        of_cells = of_cells & text.seen_by_image[:, None, None]
    of_cells = F.pad(of_cells.expand(-1, num_cells, -1), (num_cells, 0), value=True)
    return torch.cat([of_cells, of_words], dim=1)
