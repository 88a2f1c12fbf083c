"""What a pre-training is watched on (Appendices D.1 and D.2, Figure 10).

COCO val, LVIS minival and Flickr30k val, whole: `glip train --eval configs/eval/pretraining.py
train.eval_period=20000`. LVIS and Flickr30k overfit while COCO still rises, so that the mean of
these two tells the best checkpoint.
"""

from ..common.eval import evaluation, model, several

# LVIS's; of COCO the 100 best boxes of an image count, of Flickr30k the 10 best of a phrase.
model.postprocessor.detections_per_prompt = 300
dataloader = several(["coco_2017_val", "lvis_v1_minival", "flickr30k_separate_val"])
dataloader.further_tests.lvis_v1_minival.test.mapper.chunk_size = 40
train = dict(
    best_metric=["lvis_v1_minival/bbox_fixed/AP", "flickr30k_separate_val/flickr30k_any/R@1"]
)
