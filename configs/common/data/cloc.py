"""Image-text pairs with pseudo boxes, as CLOC learns from; tests with given boxes (Section 5.1).

The paper's pairs (VESL) were never published: `glip label` makes one's own, see docs/cloc.md.
GRIT's retrieval is evaluated on Flickr30k's phrases here.
"""

from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from glipv2_d2.evaluation import RegionClassificationEvaluator, RegionRetrievalEvaluator

from ..loaders import test_loader, train_loader
from ..mixes import CC15M_SBU


def region_test(name, evaluator, **options):
    """A test set whose boxes are given to the model."""
    test = test_loader(name, **options)
    test.mapper.chunk_size = None  # no names are asked for
    folder = "${train.output_dir}/inference/" + name
    return dict(test=test, evaluator=L(evaluator)(dataset_name=name, output_dir=folder))


_batches = dict(batch_size=16, num_workers=4)
dataloader = OmegaConf.create(flags={"allow_objects": True})
dataloader.train = train_loader(
    CC15M_SBU,
    short_edges=("${model.visual.image_size}",),
    max_size="${model.visual.image_size}",
    total_batch_size=32768,
    num_workers=16,
)
dataloader.update(region_test("coco_2017_val", RegionClassificationEvaluator, **_batches))
dataloader.further_tests = dict(
    lvis_v1_val=region_test("lvis_v1_val", RegionClassificationEvaluator, **_batches),
    flickr30k_separate_val=region_test(
        "flickr30k_separate_val", RegionRetrievalEvaluator, **_batches
    ),
)
