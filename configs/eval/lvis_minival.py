"""LVIS minival (4,809 images): prompts of 40 names, 300 boxes of each, fixed AP.

`evaluation.ap=standard`: the 300 best boxes of an image, as LVIS itself counts.
"""

from ..common.eval import evaluation, model, one

model.chunk_size = 40
model.postprocessor.detections_per_prompt = 300
evaluation.ap = "fixed"
dataloader = one("lvis_v1_minival", ap="${evaluation.ap}")
