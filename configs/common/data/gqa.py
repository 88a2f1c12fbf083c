"""GQA, balanced: questions with one answer each."""

from .coco import dataloader

# Written by datasets/prepare_vqa_answers.py.
answers = "${oc.env:DETECTRON2_DATASETS,datasets}/gqa/answers.json"

dataloader.train.datasets = ["gqa_train", "gqa_val"]
dataloader.test.dataset = "gqa_testdev"
