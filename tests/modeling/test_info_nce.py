"""InfoNCE of pairs: against loops, by hand, and which pairs are no negatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from glipv2_d2.modeling.info_nce import info_nce


def units(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def by_loops(rows, texts, scale, conflicts):
    """Both directions of the equation, one exponential after the other."""
    total = 0.0
    for one, other in ((rows, texts), (texts, rows)):
        for i in range(len(one)):
            terms = [
                torch.exp(one[i] @ other[j] * scale)
                for j in range(len(one))
                if j == i or not conflicts[i][j]
            ]
            total = total - torch.log(torch.exp(one[i] @ other[i] * scale) / sum(terms))
    return total / 2 / len(rows)


@pytest.mark.parametrize("conflict_threshold", [None, 0.9])
def test_equals_loops_and_so_do_its_gradients(conflict_threshold):
    rows, texts = units(6, 4).requires_grad_(), units(6, 4, seed=1)
    texts[3] = texts[0]
    texts = texts.requires_grad_()
    alike = [
        [conflict_threshold is not None and {i, j} == {0, 3} for j in range(6)] for i in range(6)
    ]
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    loss = info_nce(rows, texts, scale, conflict_threshold)
    expected = by_loops(rows, texts, scale, alike)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    inputs = (rows, texts, scale)
    for found, wanted in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs)
    ):
        torch.testing.assert_close(found, wanted)


def test_two_regions_of_one_text_are_no_negatives_of_each_other():
    """By hand: the rows are their texts, scale 1; the two alike see the third only."""
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    of_two = math.log(1 + math.exp(-1))
    alone = math.log(1 + 2 * math.exp(-1))
    loss = info_nce(texts, texts, torch.tensor(1.0), 0.9)
    assert loss.item() == pytest.approx((2 * of_two + alone) / 3)
    assert info_nce(texts, texts, torch.tensor(1.0)).item() > loss.item() + 0.1


def test_texts_that_are_all_much_alike_are_told_apart():
    """Each pair would be above the threshold by itself, and nothing be learned."""
    texts = F.normalize(units(5, 8) * 0.1 + 1, dim=-1)
    assert (texts @ texts.T).min() > 0.9
    rows = units(5, 8, seed=1)
    scale = torch.tensor(5.0)
    assert info_nce(rows, texts, scale, 0.9).item() == pytest.approx(
        info_nce(rows, texts, scale).item()
    )


@pytest.mark.parametrize("conflict_threshold", [None, 0.9])
def test_no_pair_is_no_loss_and_has_a_gradient(conflict_threshold):
    rows, texts = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4, requires_grad=True)
    scale = torch.tensor(5.0, requires_grad=True)
    loss = info_nce(rows, texts, scale, conflict_threshold)
    loss.backward()
    assert loss.item() == 0
    assert rows.grad is not None
    assert scale.grad == 0
