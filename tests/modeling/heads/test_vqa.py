"""Attention pooling, the loss of soft answers, and lists of answers that are refused."""

import math

import pytest
import torch
from torch import nn

from glipv2_d2.checkpoint import check_weights
from glipv2_d2.errors import CheckpointError, ConfigError, DataError
from glipv2_d2.modeling.heads import VqaHead, vqa

ANSWERS = ["red", "blue", "2", "yes"]


def small_head(answers=ANSWERS, **options):
    torch.manual_seed(0)
    return VqaHead(text_channels=8, answers=answers, **options)


def transparent_head():
    """Two answers, whose logits are the pooled words."""
    head = VqaHead(text_channels=2, answers=["red", "blue"])
    head.mlp = nn.Identity()
    with torch.no_grad():
        head.classifier.weight.copy_(torch.eye(2))
        head.classifier.bias.zero_()
        head.pooling.weight.copy_(torch.tensor([[1.0, 0.0]]))
        head.pooling.bias.fill_(0.5)
    return head


def questions(count=3, length=5):
    generator = torch.Generator().manual_seed(1)
    words = torch.randn(count, length, 8, generator=generator)
    mask = torch.arange(length) < torch.tensor([[length], [length - 2], [1]])[:count]
    return words, mask


def test_attention_pooling_by_hand():
    """Scores 0.5 and 0.5 + ln 3 are shares of 1/4 and 3/4; padding has none."""
    words = torch.tensor([[[0.0, 1.0], [math.log(3), 2.0], [9.0, 9.0]]])
    logits = transparent_head().logits(words, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(logits, torch.tensor([[0.75 * math.log(3), 0.25 + 1.5]]))


def test_logits_against_the_formula():
    head = small_head(hidden_channels=6)
    words, mask = questions()
    first, _, second, _ = head.mlp

    def layer(x, linear):
        x = x @ linear.weight.T + linear.bias
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))  # GELU

    for row, own, found in zip(words, mask, head.logits(words, mask)):
        row = row[own]
        shares = (row @ head.pooling.weight[0] + head.pooling.bias).exp()
        pooled = (shares[:, None] * row).sum(0) / shares.sum()
        hidden = layer(layer(pooled, first), second)
        expected = head.classifier.weight @ hidden + head.classifier.bias
        # Sums of 8 terms of size 1 in float32.
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_loss_by_hand():
    """Of logits 0 and ln 3, so chances of 1/2 and 3/4, summed over answers, mean of questions."""
    words = torch.tensor([[[0.0, math.log(3)]]]).repeat(2, 1, 1)
    loss = transparent_head()(words, torch.ones(2, 1).bool(), [{"red": 1, "blue": 0.3}, {}])
    first = math.log(2) - 0.3 * math.log(0.75) - 0.7 * math.log(0.25)
    second = math.log(2) - math.log(0.25)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_answers_outside_the_list_count_for_nothing():
    head, (words, mask) = small_head(weight=0.5), questions(1)
    known = head(words, mask, [{"red": 0.6}])
    assert head(words, mask, [{"crimson": 1.0, "red": 0.6}]) == known
    assert head(words, mask, [{"crimson": 1.0}]) == head(words, mask, [{}])
    torch.testing.assert_close(2 * known, small_head()(words, mask, [{"red": 0.6}]))


@pytest.mark.parametrize("share", [1, 3])
def test_loss_of_several_processes(monkeypatch, share):
    """Two processes, the second with two questions or none: the mean of both losses is that of
    one process with all."""
    head, (words, mask) = small_head(), questions()
    answers = [{"red": 1.0}, {"blue": 0.3, "2": 0.9}, {}]
    whole = head(words, mask, answers)
    monkeypatch.setattr(vqa, "mean_over_processes", lambda count: torch.tensor(1.5))
    parts = [head(words[p], mask[p], answers[p]) for p in (slice(share), slice(share, None))]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_no_question():
    head = small_head()
    words = torch.randn(2, 5, 8, requires_grad=True)
    loss = head(words[[]], torch.ones(0, 5, dtype=torch.bool), [])
    assert loss.item() == 0
    loss.backward()
    for tensor in (words, *head.parameters()):
        assert tensor.grad is not None and not tensor.grad.any()


def test_half_precision_words_give_a_float32_loss():
    head, (words, mask) = small_head(), questions()
    words = (1e3 * words).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(words, mask, [{"red": 1.0}] * 3)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head(words.detach().float(), mask, [{"red": 1.0}] * 3))
    loss.backward()
    assert torch.isfinite(words.grad).all()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "has 0 entries: give each possible answer once"),
        (["red", "blue", "red"], r"has 3 entries, of them \['red'\] more than once"),
    ],
)
def test_lists_of_answers_that_are_refused(answers, message):
    with pytest.raises(ConfigError, match=rf"model.vqa_head.answers {message}"):
        small_head(answers)


def test_a_list_in_a_file(tmp_path):
    path = tmp_path / "answers.json"
    path.write_text('{"blue": 1, "red": 0}')
    head = small_head(str(path))
    assert head.answers == ["red", "blue"] and len(head.classifier.weight) == 2
    with pytest.raises(DataError, match="answer list .*none.json' is not there"):
        small_head(str(tmp_path / "none.json"))


def test_an_empty_answer_is_one():
    assert small_head(["", "red"]).index == {"": 0, "red": 1}


def test_weights_of_a_head_for_another_list():
    state = small_head(["red", "blue"]).state_dict()
    shapes = r"classifier.weight: \(2, 8\) in the file, \(4, 8\) in the model"
    with pytest.raises(CheckpointError, match=f"x.pth .*another size.*{shapes}.*config"):
        check_weights(small_head(), state, source="x.pth", strict=False)


def test_weights_of_the_same_answers_in_another_order_are_refused():
    state = small_head(["blue", "red", "2", "yes"]).state_dict()
    with pytest.raises(CheckpointError, match="list of 4 answers, or .* order: give .*--without"):
        small_head().load_state_dict(state)
    state = small_head().state_dict()
    assert state["answers_digest"].dtype == torch.int64
    small_head().half().load_state_dict(state)


def test_older_weights_do_not_tell_their_answers(caplog):
    state = small_head().state_dict()
    del state["answers_digest"]
    small_head().load_state_dict(state)  # strict: nothing is missing
    caplog.set_level("INFO")
    nn.ModuleDict({"vqa_head": small_head()}).load_state_dict(
        {f"vqa_head.{name}": value for name, value in state.items()}
    )
    assert "the weights of vqa_head do not tell their list of answers" in caplog.text


def test_a_model_for_another_number_of_answers_has_a_remedy():
    own, other = (
        nn.ModuleDict({"vqa_head": small_head(answers), "neck": nn.Linear(2, 2)})
        for answers in (ANSWERS, ["red", "blue"])
    )
    with pytest.raises(CheckpointError, match="x.pth .*another size.*; give .*--without vqa_head"):
        check_weights(own, other.state_dict(), source="x.pth", strict=False)
    other["neck"] = nn.Linear(2, 3)  # not the answers alone
    with pytest.raises(CheckpointError, match="; give the config"):
        check_weights(own, other.state_dict(), source="x.pth", strict=False)
