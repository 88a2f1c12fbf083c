"""The demo's GLIPv2 with the tiny model in place of its own."""

from glipv2_d2.config import get_config
from tests.support.tiny import tiny_config

_demo = get_config("demo/scenes_glipv2.py")
dataloader, inference = _demo.dataloader, _demo.inference
model = tiny_config()
for _key in ("_target_", "contrast", "mlm_head"):
    model[_key] = _demo.model[_key]
inference.min_size, inference.max_size = 64, 96
