"""The recipes of captioning on small files in the real formats; the model is made up."""

import json

import pytest
from detectron2.structures import Boxes, Instances
from torch import nn, tensor

from glipv2_d2.config import get_config
from glipv2_d2.engine.evaluate import evaluate_test_sets, require_test_data
from glipv2_d2.engine.recipes import add_recipe
from glipv2_d2.language import Prompt
from tests.support import ROOT
from tests.support import benchmark_tree as tree
from tests.support.tiny import tiny_config


class Captioner(nn.Module):
    """Writes one caption, and finds the first of the two true boxes for every phrase."""

    def forward(self, inputs):
        return [self.output(x, *x["prompt"]) for x in inputs]

    def output(self, model_input, prompt):
        output = {}
        assert prompt.kind == "caption"
        if not len(prompt):
            prompt = Prompt.from_caption(tree.CAPTION.lower(), tree.PHRASES, kind="caption")
            output = {"caption": prompt.caption, "caption_score": -1.0}
        found = Instances((model_input["height"], model_input["width"]))
        x, y, w, h = tree.BOXES[0]
        found.pred_boxes = Boxes([[x, y, x + w, y + h]] * len(prompt))
        found.scores = tensor([0.5] * len(prompt))
        found.pred_classes = tensor(range(len(prompt)))
        return {**output, "prompt": prompt, "instances": found}


@pytest.fixture(scope="module")
def caption_files(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    tree.flickr30k(root)
    tree.karpathy(root)
    with tree.catalogs_at(root):
        yield root


def evaluate(recipe, folder):
    config = get_config("demo/scenes.py")
    config.model = tiny_config()
    add_recipe(config, ROOT / "configs/eval" / recipe)
    config.evaluation.num_workers = 0
    config.train.output_dir = str(folder)
    require_test_data(config.dataloader)
    return evaluate_test_sets(config.dataloader, Captioner(), output_dir=str(folder))


def test_coco(caption_files, tmp_path):
    metrics = evaluate("coco_caption.py", tmp_path)["caption"]
    assert (metrics["BLEU-4"], metrics["ROUGE-L"]) == pytest.approx((100, 100))
    rows = json.loads((tmp_path / "inference/coco_karpathy_test_predictions.json").read_text())
    assert rows == [{"image_id": i, "caption": tree.CAPTION.lower()} for i in (3, 7)]
    assert '"tokenizer"' in (tmp_path / "results.json").read_text()


def test_flickr30k(caption_files, tmp_path):
    results = evaluate("flickr30k_caption.py", tmp_path)
    read = results["flickr30k_caption_test"]["flickr30k_any"]
    assert (read["R@1"], read["R@1-people"], read["R@1-animals"]) == (50, 100, 0)
    written = results["flickr30k_grounded_caption_test"]["grounded_caption"]
    # Of "guy" and "dog" the first is found.
    assert written == {"R@1": 50, "occurring": 100, "F1_all": 50, "F1_loc": 50}
