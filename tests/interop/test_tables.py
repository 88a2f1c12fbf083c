"""Detections as text; the CSV files are tested with the other formats."""

import torch
from detectron2.structures import Boxes, Instances

from glipv2_d2.interop import instances_table
from glipv2_d2.language.phrase_list import PhraseList


def test_three_hundred_boxes_are_twenty_lines_and_a_count():
    instances = Instances((64, 80))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 2.25, 30.0, 40.0]]).repeat(300, 1))
    instances.scores = torch.full((300,), 0.987)
    instances.pred_classes = torch.zeros(300, dtype=torch.long)
    instances.pred_phrases = PhraseList(["1e5", *["red kite"] * 299])
    instances.pred_masks = torch.zeros(300, 64, 80, dtype=torch.bool)
    instances.pred_masks[0, :5, :7] = True
    lines = instances_table(instances).splitlines()
    assert [line.split() for line in lines[:4:2]] == [
        ["phrase", "score", "x0", "y0", "x1", "y1", "mask"],
        ["1e5", "0.99", "1.0", "2.2", "30.0", "40.0", "35"],
    ]
    assert len(lines) == 23 and lines[-1] == "... and 280 more"
    instances.remove("pred_masks")
    assert len(instances_table(instances[:2], most=2).splitlines()) == 4
    assert instances_table(instances[:0]).split()[:3] == ["phrase", "score", "x0"]
