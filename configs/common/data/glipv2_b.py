"""The mix of GLIPv2-B and -H: FiveODs, GoldG, CC15M + SBU (paper, Table 8)."""

from .fiveods import dataloader as _fiveods
from .glip_l import dataloader

dataloader.train.datasets = [
    *_fiveods.train.datasets,
    ["goldg_mixed_train", 4.0],
    ["goldg_flickr_train", 8.0],
    ["cc15m_sbu_train", 1.0],
]
