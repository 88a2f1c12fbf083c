"""The presence head: its score by hand, what it learns from, and the scores of boxes with it."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from glipv2_d2 import Prompt
from glipv2_d2.engine.freezing import freeze_all_but
from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.heads import PresenceHead, presence
from tests.support.tiny import detect, lively, tiny_config, tiny_input, tiny_question

NAMES = ["cat", "dog", "red kite"]


@pytest.fixture(scope="module")
def presence_model():
    config = tiny_config()
    config._target_ = GLIPv2
    config.presence_head = L(PresenceHead)(text_channels=32, hidden_channels=8)
    torch.manual_seed(0)
    return lively(instantiate(config))


@pytest.fixture
def evaluated(presence_model):
    yield presence_model.eval()
    presence_model.presence_head.weighs_boxes = True


def learned(presence_model, *inputs):
    """The loss of a batch, and of each prompt the scores of its phrases."""
    presence_model.train()
    run = presence_model.forward_training(list(inputs))
    head = presence_model.presence_head
    scores = head(run.words, run.output.logits, run.batch.tokens.positive_maps)
    sizes = [len(phrases) for phrases in run.batch.tokens.positive_maps]
    return head.losses(run)["loss_presence"], scores.split(sizes)


def test_the_score_of_a_phrase_against_the_formula():
    torch.manual_seed(0)
    head = PresenceHead(text_channels=4, hidden_channels=6)
    words, logits = torch.randn(2, 5, 4), torch.randn(2, 7, 5)
    maps = [torch.zeros(2, 5).bool(), torch.zeros(1, 5).bool()]
    maps[0][0, 1] = maps[0][1, 2:4] = maps[1][0, 1:4] = True
    found = head(words, logits, maps)
    assert found.shape == (3,)
    for score, image, tokens in zip(found, (0, 0, 1), ([1], [2, 3], [1, 2, 3])):
        mean = sum(words[image, t] for t in tokens) / len(tokens)
        best = max(sum(row[t] for t in tokens) / len(tokens) for row in logits[image])
        known = torch.cat((F.layer_norm(mean, (4,)), best[None]))
        expected = head.score(F.gelu(head.hidden(known)))
        # Sums of 5 terms of size 1 in float32.
        torch.testing.assert_close(score[None], expected, atol=1e-5, rtol=1e-5)


def test_the_shares_of_tokens_are_as_good_as_which_they_are():
    """A class map holds the former."""
    head = PresenceHead(text_channels=4)
    words, logits, tokens = torch.randn(1, 5, 4), torch.randn(1, 7, 5), torch.ones(2, 5).bool()
    expected = head(words, logits, [tokens])
    torch.testing.assert_close(head(words, logits, [tokens / 5]), expected)


def test_names_with_a_box_are_present_and_all_others_absent(presence_model):
    loss, (first, second) = learned(
        presence_model, tiny_input(), tiny_input(boxes=(), classes=(), seed=1)
    )
    truth = torch.tensor([1.0, 0, 1, 0, 0, 0])
    expected = F.binary_cross_entropy_with_logits(torch.cat((first, second)), truth)
    torch.testing.assert_close(loss, expected)


def test_a_sentence_teaches_nothing(presence_model):
    """Each of its phrases is there, or it would not say so."""
    sentence = tiny_input(seed=1)
    sentence["prompt"] = Prompt.from_caption("a cat, a dog", [[(2, 5)], [(9, 12)]])
    sentence["instances"].gt_classes[:] = torch.tensor([0, 1])
    loss, (names, _) = learned(presence_model, tiny_input(), sentence)
    expected = F.binary_cross_entropy_with_logits(names, torch.tensor([1.0, 0, 1]))
    torch.testing.assert_close(loss, expected)
    loss, _ = learned(presence_model, sentence)
    assert loss.item() == 0
    loss.backward()
    assert all(
        p.grad is not None and not p.grad.any() for p in presence_model.presence_head.parameters()
    )


def test_a_phrase_whose_word_is_masked_does_not_count(presence_model, monkeypatch):
    """Only words of what is in the image are masked: a mask would tell that it is."""

    def withhold(batch, tokenizer):
        withheld = torch.zeros_like(batch.withheld)
        withheld[0, batch.tokens.positive_maps[0][2].nonzero()[0]] = True  # "red" of the kite
        return batch.showing(batch.shown, withheld)

    monkeypatch.setattr(presence_model.presence_head, "prepare_text", withhold)
    loss, (scores,) = learned(presence_model, tiny_input())
    expected = F.binary_cross_entropy_with_logits(scores[:2], torch.tensor([1.0, 0]))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("share", [1, 2])
def test_loss_of_several_processes(presence_model, monkeypatch, share):
    """The mean of what two processes have is the loss of one with all their phrases."""
    inputs = [tiny_input(), tiny_input(seed=1), tiny_input(names=["cat"], boxes=(), classes=())]
    whole, _ = learned(presence_model, *inputs)
    monkeypatch.setattr(presence, "mean_over_processes", lambda count: torch.tensor(7 / 2))
    parts = [learned(presence_model, *part)[0] for part in (inputs[:share], inputs[share:])]
    # The prompts are padded to another length, so sums go in another order.
    torch.testing.assert_close(sum(parts) / 2, whole, atol=1e-5, rtol=1e-5)


def test_trained_alone_it_leaves_everything_else_as_it_is(presence_model):
    before = {name: p.detach().clone() for name, p in presence_model.state_dict().items()}
    trained = [p for p in presence_model.parameters() if p.requires_grad]
    freeze_all_but(presence_model, ["presence_head"])
    losses = presence_model.train()([tiny_input()])
    assert set(losses) == {"loss_presence"}
    losses["loss_presence"].backward()
    torch.optim.SGD(presence_model.presence_head.parameters(), lr=0.1).step()
    for name, value in presence_model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("presence_head"), name
    for parameter in trained:
        parameter.requires_grad_(True)


def test_its_loss_does_not_move_the_logits_of_boxes(presence_model):
    loss, _ = learned(presence_model, tiny_input())
    presence_model.zero_grad()
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in presence_model.head.parameters())
    assert any(p.grad is not None and p.grad.any() for p in presence_model.neck.parameters())


@torch.no_grad()
def test_presence_is_a_factor_of_the_class_score(evaluated, monkeypatch):
    """So of the final score, the root of class score and centerness, its root is one."""
    for limit in ("topk_candidates", "detections_per_prompt"):
        monkeypatch.setattr(evaluated.postprocessor, limit, 10_000)
    monkeypatch.setattr(evaluated.postprocessor, "score_threshold", 0.0)
    asked = [Prompt.from_classes(NAMES[:2]), Prompt.from_classes(NAMES[2:], [2])]
    (output,) = evaluated([tiny_question(asked)])
    evaluated.presence_head.weighs_boxes = False
    (plain,) = evaluated([tiny_question(asked)])
    told = output["presence"]
    assert told.shape == (3,) and torch.equal(told, plain["presence"])
    assert len(set(told.tolist())) == 3 and 0 < told.min() and told.max() < 1
    for k in range(3):
        found, before = (x["instances"][x["instances"].pred_classes == k] for x in (output, plain))
        assert len(found) > 10
        torch.testing.assert_close(found.scores, before.scores * told[k].sqrt())
        assert torch.equal(found.pred_boxes.tensor, before.pred_boxes.tensor)


def test_a_caption_is_not_judged(evaluated):
    """Its words never saw the image."""
    caption = Prompt.from_caption("a cat", [[(2, 5)]], kind="caption")
    with torch.no_grad():
        (output,) = evaluated([tiny_question(caption)])
    assert "presence" not in output
    evaluated.presence_head.weighs_boxes = False
    (plain,) = detect(evaluated, tiny_question(caption))
    assert torch.equal(output["instances"].scores, plain.scores)
