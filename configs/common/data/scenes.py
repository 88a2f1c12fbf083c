"""The embedded "scenes": detection and captions mixed, two test sets (see datasets/README.md).

Tests prompt all 64 color-shape names; `scenes_novel` has the 12 that never occur in training.
"""

from omegaconf import OmegaConf

from ..loaders import evaluator, test_loader, train_loader


def _test(name, folder):
    return dict(
        test=test_loader(name, batch_size=8, num_workers=0),
        evaluator=evaluator("${..test.dataset}", folder),
    )


dataloader = OmegaConf.create()
dataloader.train = train_loader(
    # (name, how often an epoch each image is seen)
    [["scenes_train", 1.0], ["scenes_train_grounding", 1.0]],
    short_edges=(160, 176, 192, 208, 224),
    max_size=256,
    total_batch_size=12,
    num_workers=1,
)
dataloader.update(
    _test("scenes_val", "inference_val"),
    further_tests=dict(scenes_novel=_test("scenes_novel", "inference_novel")),
)
