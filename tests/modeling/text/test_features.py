import torch

from glipv2_d2.modeling.text import TextFeatures


def test_prompts_are_selected_alike_in_all_fields():
    hidden = torch.arange(24.0).reshape(3, 2, 4)
    features = TextFeatures(hidden, -hidden, torch.tensor([[True, False]] * 3))
    assert len(features) == 3
    for rows in (slice(1, 3), [2, 0, 0], torch.tensor([1])):
        chosen = features[rows]
        assert torch.equal(chosen.hidden, hidden[rows])
        assert torch.equal(chosen.embedded, -hidden[rows])
        assert chosen.mask.shape == (len(chosen), 2)
