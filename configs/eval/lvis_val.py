"""LVIS val (19,809 images) with LVIS's own AP; `evaluation.ap=fixed` as GLIP's command has it."""

from .lvis_minival import dataloader, evaluation, model

evaluation.ap = "standard"
dataloader.test.dataset = "lvis_v1_val"
