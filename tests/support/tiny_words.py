"""The demo's GLIPv2 that answers, with the tiny model in place of its own."""

from glipv2_d2.config import get_config
from tests.support.tiny_understanding import tiny_understanding_config

_demo = get_config("demo/scenes_glipv2_vl.py")
dataloader, inference = _demo.dataloader, _demo.inference
model = tiny_understanding_config()
model.neck.positions = True
model.vqa_head = _demo.model.vqa_head
model.vqa_head.text_channels = 32
inference.min_size, inference.max_size = 64, 96
