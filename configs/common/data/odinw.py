"""One data set of ODinW: `odinw.name=pothole`; few-shot: `odinw.train=fewshot_train_shot3_seed30`.

GLIP's rules for fine-tuning: batch 4, five sizes, prompts in the order of the classes, and with few
shots `odinw.copies` of 8, 4, 2 and 1 for 1, 3, 5 and 10 images of a class.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.data.mappers.resizing import resize_in_proportion

from .coco import dataloader

odinw = dict(name="Aquarium", train="train", test="test", copies=1)

dataloader.train.datasets = [["odinw_${odinw.name}_${odinw.train}", "${odinw.copies}"]]
dataloader.train.total_batch_size = 4
dataloader.train.aspect_ratio_grouping = False
dataloader.train.mapper.shuffle = False
dataloader.train.mapper.augmentations[0] = L(resize_in_proportion)(
    percent=(60, 70, 80, 90, 100),  # 480 to 800 where the model sees 800
    min_size="${inference.min_size}",
    max_size="${inference.max_size}",
)
dataloader.test.dataset = "odinw_${odinw.name}_${odinw.test}"
