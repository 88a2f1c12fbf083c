"""GLIP-T: Objects365, GoldG and 4 million image-text pairs with pseudo boxes (paper, Table 1).

The authors' own config lists what is public, like GLIP-T (C), and so does this one: the pairs
(Cap4M; CC3M and SBU in the released weights) were never published. With pairs of one's own,
which `glip label` gives boxes (docs/self_training.md), take the data of common/data/glipv2_t.py.
"""

from ..common.recipes.glip_t_c import dataloader, inference, lr_multiplier, model, optimizer, train

train.output_dir = "./output/glip_t"
