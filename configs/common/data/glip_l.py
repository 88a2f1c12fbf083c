"""The mix of GLIP-L: FourODs, GoldG and image-text pairs, without COCO's images in any of them.

Copies of GoldG and the packing of captions as in GLIP's config for GLIP-L; its 24 million pairs
(Cap24M) were never published, CC15M + SBU stands in.
"""

from .cc15m_sbu import dataloader as _pairs
from .fourods import dataloader

dataloader.train.datasets = [
    *dataloader.train.datasets,
    ["goldg_mixed_no_coco_train", 4.0],  # x 0.6 million captions
    ["goldg_flickr_train", 8.0],  # x 0.15 million
    *_pairs.train.datasets,
]
# Of the pairs only: the captions of GoldG stay alone, as in the official code.
dataloader.train.mapper.negative_captions = {"cc15m_sbu_train": 20}
dataloader.train.mapper.plain_caption_prob = 0.4
dataloader.train.mapper.full_captions_prob = 0.5
