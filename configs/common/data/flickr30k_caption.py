"""Grounded captioning: captions of COCO, and of Flickr30k with the boxes of their phrases.

Tested as in the paper (Table 9): the captions on Karpathy's test split of COCO, the boxes on
Flickr30k with the reference captions; and the boxes of captions that the model writes there.
"""

from ..loaders import evaluator, test_loader
from .coco_caption import dataloader

dataloader.train.datasets = ["coco_karpathy_train", "flickr30k_caption_train"]
dataloader.further_tests = {
    name: dict(
        test=test_loader(name, batch_size=1, num_workers=4),
        evaluator=evaluator("${..test.dataset}", f"inference_{name}"),
    )
    for name in ("flickr30k_caption_test", "flickr30k_grounded_caption_test")
}
