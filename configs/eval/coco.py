"""COCO detection: all 80 names in one prompt, Detectron2's COCO metrics on val2017."""

from ..common.eval import evaluation, model, one

dataloader = one("coco_2017_val")
