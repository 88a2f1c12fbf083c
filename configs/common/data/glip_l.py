"""The mix of GLIP-L: FourODs, GoldG and image-text pairs, without COCO's images in any of them.

Its 24 million pairs (Cap24M) were never published, CC15M + SBU stands in.
"""

from ..mixes import CC15M_SBU, FOUR_ODS, GOLDG_COPIES, PACKED_PAIRS
from .coco import dataloader

dataloader.train.datasets = [*FOUR_ODS, *GOLDG_COPIES, *CC15M_SBU]
dataloader.train.mapper.update(PACKED_PAIRS)
