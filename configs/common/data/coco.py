"""COCO detection as grounding: the 80 names are the prompt."""

from omegaconf import OmegaConf

from ..loaders import evaluator, test_loader, train_loader

dataloader = OmegaConf.create()
dataloader.train = train_loader(
    ["coco_2017_train"],
    short_edges=(480, 560, 640, 720, 800),
    max_size=1333,
    mapper=dict(max_classes=85, full_prompt_prob=0.5),
    total_batch_size=16,
    num_workers=4,
    aspect_ratio_grouping=True,
)
dataloader.test = test_loader("coco_2017_val", batch_size=1, num_workers=4)
dataloader.evaluator = evaluator("${dataloader.test.dataset}")
