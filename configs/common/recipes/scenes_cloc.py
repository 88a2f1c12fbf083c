"""The demo's CLOC, from scratch on the captions and names of the embedded "scenes"."""

from glipv2_d2.evaluation import RegionClassificationEvaluator, RegionRetrievalEvaluator

from ..data.cloc import region_test
from ..data.scenes import dataloader
from ..models.cloc_scenes import model
from .cloc import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/scenes_cloc"
train.max_iter = 800  # five minutes of a quiet core
train.eval_period = 0
train.checkpointer.period = 1000
train.checkpointer.max_to_keep = 2

optimizer.lr = 1e-3
optimizer.weight_decay = 0.05
optimizer.fused = True
lr_multiplier.warmup_iters = 100

dataloader.train.total_batch_size = 16
dataloader.train.datasets = [["scenes_train", 1.0], ["scenes_train_grounding", 1.0]]
dataloader.train.mapper.max_classes = 8  # so that a list of names fits the text tower
_size = "${model.visual.image_size}"
dataloader.train.mapper.augmentations[0].short_edge_length = (_size,)
dataloader.train.mapper.augmentations[0].max_size = _size

_batches = dict(batch_size=16, num_workers=0)
dataloader.update(region_test("scenes_val", RegionClassificationEvaluator, **_batches))
dataloader.further_tests = dict(
    scenes_novel=region_test("scenes_novel", RegionClassificationEvaluator, **_batches),
    scenes_val_grounding=region_test("scenes_val_grounding", RegionRetrievalEvaluator, **_batches),
)
