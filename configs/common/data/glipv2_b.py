"""The mix of GLIPv2-B and -H: FiveODs, GoldG, CC15M + SBU (Table 8), COCO's images included."""

from ..mixes import CC15M_SBU, FIVE_ODS, GOLDG_COPIES_WITH_COCO, PACKED_PAIRS
from .coco import dataloader

dataloader.train.datasets = [*FIVE_ODS, *GOLDG_COPIES_WITH_COCO, *CC15M_SBU]
dataloader.train.mapper.update(PACKED_PAIRS)
