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


def test_some_prompts_of_a_batch_keep_their_structure():
    hidden = torch.arange(12.0).reshape(3, 2, 2)
    mask = torch.ones(3, 2, dtype=torch.bool)
    plain = TextFeatures(hidden, hidden, mask)[[2, 0]]
    assert plain.causal is None and plain.seen_by_image is None
    causal = torch.tensor([True, False, False])
    some = TextFeatures(hidden, hidden, mask, causal, ~causal)[[2, 0]]
    assert torch.equal(some.hidden, hidden[[2, 0]])
    assert some.causal.tolist() == [False, True] and some.seen_by_image.tolist() == [True, False]
