"""GLIP-T: Objects365, GoldG and 4 million image-text pairs with pseudo boxes (paper, Table 1).

The pairs (Cap4M) are data of the authors that was never published; what is public is listed here.
"""

from .glip_t_c import dataloader, inference, lr_multiplier, model, optimizer, train

train.output_dir = "./output/glip_t"
