"""The comparison of an export with its model."""

import pytest
import torch

from glipv2_d2.errors import ExportError
from glipv2_d2.export import check_export


def test_check_finds_a_model_with_other_weights(source_model, loaded):
    differences = check_export(source_model, loaded)
    assert set(differences) == {"logits", "deltas", "centerness"}
    assert max(differences.values()) < 1e-4
    with torch.no_grad():
        source_model.head.bias0.add_(0.01)
        try:
            with pytest.raises(ExportError, match=r"logits 1\.0e-02, deltas"):
                check_export(source_model, loaded)
        finally:
            source_model.head.bias0.sub_(0.01)


def test_check_compares_masks_answers_and_captions(telling, loaded_telling):
    differences = check_export(telling, loaded_telling)
    assert {"masks", "answer_logits", "next_logits"} < set(differences)
    assert max(differences.values()) < 1e-4
