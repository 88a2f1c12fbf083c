"""Grounded captioning on Flickr30k Entities, test.

Recall of the phrases of the reference captions, read word by word as the model writes (GLIPv2,
Table 9); and of captions that the model writes: how many of their phrases and boxes are right.
"""

from ..common.eval import evaluation, model, several

dataloader = several(["flickr30k_caption_test", "flickr30k_grounded_caption_test"])
