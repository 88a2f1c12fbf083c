"""The mix of GLIPv2-B and -H: FiveODs, GoldG, CC15M + SBU (paper, Table 8), COCO's images included.

GoldG is MDETR's (Section 4), of which GLIP-L's and GLIPv2-T's leave out COCO's images.
"""

from .fiveods import dataloader as _fiveods
from .glip_l import dataloader

dataloader.train.datasets = [
    *_fiveods.train.datasets,
    ["goldg_mixed_train", 4.0],
    ["goldg_flickr_train", 8.0],
    ["cc15m_sbu_train", 1.0],
]
