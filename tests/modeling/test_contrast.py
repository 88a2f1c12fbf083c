"""The contrastive loss: the loss against loops, what must not break."""

import math

import pytest
import torch

from glipv2_d2.language import Prompt
from glipv2_d2.modeling.contrast import ContrastTargets, RegionWordContrast, sample_positions
from tests.support.contrast_cases import (
    CHANNELS,
    POSITIONS,
    TEXT_CHANNELS,
    classes,
    features_of,
    make_targets,
    mixed_images,
    naive_loss,
)


def make_contrast(seed=0, **options):
    torch.manual_seed(seed)
    options = {"embed_channels": 4, "max_regions": 100, "temperature": 0.5, **options}
    return RegionWordContrast(channels=CHANNELS, text_channels=TEXT_CHANNELS, **options)


def compare_with_loops(contrast, targets):
    """1e-6 relative to the largest entry of a gradient; the computation is in float64."""
    contrast = contrast.double()
    levels, text = features_of(targets)
    inputs = [*levels, text.hidden, *contrast.parameters()]
    loss = contrast(levels, text, targets)
    expected = naive_loss(contrast, [(levels, text, targets)])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    actual = torch.autograd.grad(loss, inputs)
    for gradient, reference in zip(actual, torch.autograd.grad(expected, inputs)):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-6 * reference.abs().max())
    return loss.item()


@pytest.mark.parametrize("hidden", [(), {(0, "dog"), (2, "person"), (4, "man")}])
def test_equals_plain_loops(hidden):
    targets = make_targets(*mixed_images()[:6], hidden=hidden)
    assert compare_with_loops(make_contrast(), targets) > 1


def test_one_image_and_one_word():
    compare_with_loops(make_contrast(), make_targets((classes("a", "b"), [1, 0])))
    single = make_targets((Prompt.parse("[cat]"), [0]))
    single.words[:] = torch.tensor([False, True, False])
    # One word is always the right one; the region among the 17 remains to be found.
    assert compare_with_loops(make_contrast(temperature=1e9), single) == pytest.approx(
        math.log(POSITIONS)
    )


def test_loss_by_hand():
    """Two regions with a box each, two words, all projections the identity, temperature 1."""
    contrast = RegionWordContrast(
        channels=2, text_channels=2, embed_channels=2, temperature=1.0, weight=3.0
    )
    with torch.no_grad():
        contrast.region_projection.weight.copy_(torch.eye(2))
        contrast.word_projection.weight.copy_(torch.eye(2))
    targets = make_targets((classes("cat"), [0]), (Prompt.parse("[cat]"), [0]), positions=1)
    targets.words[:] = torch.tensor([False, True, False])
    # The first region is the words' direction (length 5 and 2 do not matter), the second not.
    level = torch.tensor([[[[5.0]], [[0.0]]], [[[0.0]], [[1.0]]]])
    _, text = features_of(targets)
    text.hidden = torch.tensor([2.0, 0.0]).expand(2, 3, 2)
    # Regions: the first is right with word 0 only (word 1 is a sentence's), the second with both;
    # it scores the same with both words, and so does the first: log 2 each.
    # Words: word 0 has both regions as targets, word 1 the second: scores 1 and 0.
    total = math.exp(1) + 1
    word_0 = -(math.log(math.e / total) + math.log(1 / total)) / 2
    word_1 = -math.log(1 / total)
    expected = 3 * (math.log(2) + (word_0 + word_1) / 2)
    assert contrast([level], text, targets).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        [(classes("cat"), []), (classes("dog"), [])],
        [(Prompt.parse("a [cat]"), [])],
    ],
)
def test_without_positives_it_is_zero_and_has_gradients(images):
    targets = make_targets(*images)
    contrast = make_contrast()
    levels, text = features_of(targets, dtype=torch.float32)
    loss = contrast(levels, text, targets)
    assert loss.item() == 0
    loss.backward()
    for tensor in (*levels, text.hidden, *contrast.parameters()):
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


def test_words_all_masked():
    targets = make_targets((classes("cat"), [0]))
    targets.words[:] = False
    contrast = make_contrast()
    levels, text = features_of(targets, dtype=torch.float32)
    loss = contrast(levels, text, targets)
    loss.backward()
    assert loss.item() == 0
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in contrast.parameters())


def test_padding_does_not_matter():
    """Neither what stands in padded tokens nor how many there are."""
    images = mixed_images()[:3]
    targets = make_targets(*images)
    contrast = make_contrast().double()
    levels, text = features_of(targets)
    expected = contrast(levels, text, targets)
    with torch.no_grad():
        text.hidden[~targets.words] = 1e6
    assert contrast(levels, text, targets).item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_finite_step_in_bf16():
    """The loss is computed in float32, whatever the backbones' precision."""
    targets = make_targets(*mixed_images())
    contrast = make_contrast(temperature=0.01)
    levels, text = features_of(targets, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = contrast(levels, text, targets)
        embedded = contrast.embed_regions(levels), contrast.embed_words(text.hidden)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    for tensor in (*levels, text.hidden, *contrast.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()
    for vectors, shape in zip(embedded, ((8, POSITIONS, 4), (*targets.words.shape, 4))):
        assert vectors.shape == shape
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(shape[:2]))


def test_embeddings_are_those_of_the_loss():
    """Positions count over the levels, row by row: the loss of the matrix of all of them."""
    targets = make_targets((classes("cat"), [0, 0, 0, 0, 0, 0, 0]))
    contrast = make_contrast().double()
    levels, text = features_of(targets)
    logits = contrast.embed_regions(levels)[0] @ contrast.embed_words(text.hidden)[0].T / 0.5
    right = torch.arange(7) * 2  # also of the second level, which begins at 12
    word = 1
    expected = (
        -logits.log_softmax(1)[right, word].mean() - logits.log_softmax(0)[right, word].mean()
    )
    assert contrast(levels, text, targets).item() == pytest.approx(expected.item(), rel=1e-7)


def test_temperature_is_bounded_and_can_leave_the_bound():
    contrast = make_contrast(temperature=0.02, min_temperature=0.01)
    targets = make_targets(*mixed_images()[:3])
    levels, text = features_of(targets, dtype=torch.float32)
    with torch.no_grad():
        contrast.log_temperature.fill_(-20.0)
    contrast(levels, text, targets).backward()
    assert contrast.log_temperature.item() == pytest.approx(math.log(0.01))
    # Random features: a higher temperature would be better.
    assert contrast.log_temperature.grad < 0


def test_sample_keeps_to_its_bounds():
    matches = torch.full((3, 50), -1)
    matches[0, :30] = 0
    matches[1, 7] = 2
    torch.manual_seed(0)
    inside = torch.ones_like(matches, dtype=torch.bool)
    images, positions = sample_positions(matches, inside, 10, 16)
    counts = {i: int((matches[i, positions[images == i]] >= 0).sum()) for i in range(3)}
    assert counts == {0: 10, 1: 1, 2: 0}
    assert images.bincount().tolist() == [16, 16, 16]
    for i in range(3):
        assert len(positions[images == i].unique()) == 16
    # A positive beyond the bound is not taken for a negative; few others are all taken.
    matches[0, :48] = 0
    images, positions = sample_positions(matches[:1], inside[:1], 10, 16)
    assert (matches[0, positions] >= 0).sum() == 10
    assert len(positions) == 12
    # The seed decides.
    samples = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        samples.append(sample_positions(matches, inside, 10, 16)[1].tolist())
    assert samples[0] == samples[1] != samples[2]


def test_padding_is_never_sampled():
    """An image in a larger batch has the regions that it has alone, by the same random choice."""
    alone = torch.full((1, 4 * 5), -1)
    alone[0, [0, 7]] = torch.tensor([1, 0])
    padded = torch.full((1, 6, 9), -1)
    padded[0, :4, :5] = alone.reshape(4, 5)
    inside = torch.zeros_like(padded, dtype=torch.bool)
    inside[0, :4, :5] = True
    everywhere = torch.ones_like(alone, dtype=torch.bool)
    for max_regions in (8, 100):
        torch.manual_seed(0)
        _, expected = sample_positions(alone, everywhere, 10, max_regions)
        torch.manual_seed(0)
        _, found = sample_positions(padded.flatten(1), inside.flatten(1), 10, max_regions)
        assert len(expected) == min(max_regions, 20)
        assert torch.equal(found // 9 * 5 + found % 9, expected)


def test_gradient_only_at_sampled_positions():
    targets = make_targets((classes("cat", "dog"), [0, 1]), (classes("cat"), []))
    contrast = make_contrast(max_positives=1, max_regions=3)
    levels, text = features_of(targets, dtype=torch.float32)
    contrast(levels, text, targets).backward()
    for i in range(2):
        touched = sum(int(level.grad[i].any(dim=0).sum()) for level in levels)
        assert touched == 3


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="max_positives must lie between 1 and max_regions"):
        make_contrast(max_positives=20, max_regions=10)
    with pytest.raises(ValueError, match="temperature must be at least min_temperature"):
        make_contrast(temperature=0.001)
    targets = make_targets((classes("cat"), [0]), positions=9)
    levels, text = features_of(targets)
    with pytest.raises(ValueError, match="9 positions, the pyramid has 17"):
        make_contrast()(levels, text, ContrastTargets(*targets))


def test_the_word_like_a_region_projects_to_where_the_region_is(monkeypatch):
    """Where words vary in as many directions as are projected, and all as far, it is that word."""
    monkeypatch.setattr("glipv2_d2.modeling.contrast.WORD_NOISE", 1e-9)
    contrast = make_contrast().double()
    size = contrast.word_projection.out_features
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(200, size, generator=generator).double()
    places = places / places.norm(dim=1, keepdim=True)
    others = places @ torch.randn(size, TEXT_CHANNELS - size, generator=generator).double()
    known = torch.cat((places, 3 + others), dim=1)
    with torch.no_grad():
        contrast.word_projection.weight.copy_(torch.eye(size, TEXT_CHANNELS))
        contrast.word_projection.bias.zero_()
    words = torch.stack([contrast.word_like(5 * place, known) for place in places[:10]])
    torch.testing.assert_close(words, known[:10], rtol=0, atol=1e-6)
