"""Test sets of questions and captions about the embedded "scenes", beside those of names."""

from detectron2.config import LazyCall as L
from detectron2.evaluation import DatasetEvaluators

from .loaders import evaluator, test_loader

# By name: a config that is only read does not load the demo's world.
_IN_SCENE = "glipv2_d2.scenes.caption_truth.SceneCaptionEvaluator"


def text_tests():
    """Questions with boxes, and captions to be written, of `val` and of the 12 novel pairs."""
    tests = {}
    for split in ("val", "novel"):
        questions, captions = f"scenes_{split}_vqa_grounding", f"scenes_{split}_grounded_caption"
        tests[questions] = dict(
            test=test_loader(questions, batch_size=8, num_workers=0),
            evaluator=evaluator("${..test.dataset}", f"inference_{split}_vqa"),
        )
        # The metrics of any caption, and whether it is true of the scene.
        of_any = evaluator("${....test.dataset}", f"inference_{split}_caption")
        in_scene = L(_IN_SCENE)(dataset_name="${....test.dataset}", truth=f"scenes_{split}")
        tests[captions] = dict(
            test=test_loader(captions, batch_size=8, num_workers=0),
            evaluator=L(DatasetEvaluators)(evaluators=[of_any, in_scene]),
        )
    return tests
