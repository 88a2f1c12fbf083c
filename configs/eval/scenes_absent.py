"""Names that may be absent, on the embedded "scenes": cgF1 (docs/open_world_presence.md)."""

from ..common.eval import evaluation, model, several

evaluation.score_threshold = 0.5
evaluation.batch_size = 8
evaluation.num_workers = 0
dataloader = several(
    ["scenes_val_absent", "scenes_novel_absent"],
    score_threshold="${evaluation.score_threshold}",
)
