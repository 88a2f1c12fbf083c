"""LVIS val (19,809 images) with LVIS's own AP; `evaluation.ap=fixed` as GLIP's command has it."""

from ..common.eval import evaluation, model, one

model.chunk_size = 40
model.postprocessor.detections_per_prompt = 300
evaluation.ap = "standard"
dataloader = one("lvis_v1_val", ap="${evaluation.ap}")
