"""The Prompter: where its tokens are, and that each box has an embedding of its own."""

import pytest
import torch

from glipv2_d2.modeling.prompter import BoxHead, Prompter, RoIAlignPrompter, encode_points

GRID = (2, 3)


def prompter(**options):
    torch.manual_seed(0)
    return Prompter(channels=16, embed_channels=8, **options).double().eval()


def tokens(batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 6, 16, generator=generator, dtype=torch.float64)


BOXES = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 0.3]]).double()
IMAGES = torch.tensor([0, 1, 0])


def test_points_have_sines_and_cosines_of_x_and_then_of_y():
    point = encode_points(torch.tensor([0.25, 1.0]), 16)
    # Half a wave over the image is the lowest frequency: 0.25 is an eighth of a turn.
    assert point[0].item() == pytest.approx(2**-0.5)
    assert point[4].item() == pytest.approx(2**-0.5)
    assert point[8].item() == pytest.approx(0, abs=1e-6)
    assert point[12].item() == pytest.approx(-1)
    spread = encode_points(torch.rand(50, 2, generator=torch.Generator().manual_seed(0)), 64)
    assert torch.pdist(spread).min() > 0.1  # no two points are alike


@torch.no_grad()
def test_equals_a_transformer_over_the_prompt_and_the_image():
    model, features = prompter(), tokens()
    found = model.of_boxes(features, GRID, IMAGES, BOXES)
    for row, (image, box) in enumerate(zip(IMAGES, BOXES)):
        corners = torch.stack([encode_points(box[:2], 16), encode_points(box[2:], 16)])
        centers = [[(x + 0.5) / 3, (y + 0.5) / 2] for y in range(2) for x in range(3)]
        seen = features[image] + encode_points(torch.tensor(centers), 16)
        sequence = torch.cat((corners + model.corner_embedding, seen))[None]
        pooled = model.norm(model.layer(sequence))[0, :2].mean(dim=0)
        torch.testing.assert_close(found[row], model.projection.weight @ pooled)


@torch.no_grad()
def test_another_box_image_or_corner_is_another_embedding():
    model = prompter()
    found = model.of_boxes(tokens(), GRID, IMAGES, BOXES)
    swapped = model.of_boxes(tokens(), GRID, IMAGES, BOXES[:, [2, 3, 0, 1]])
    for one, other in ((found[0], found[1]), (found[0], found[2]), (found[0], swapped[0])):
        assert (one - other).abs().max() > 1e-3


def objects(images, side, channels, kinds):
    """Tokens of images whose quarters are one of `kinds` each, with their boxes and kinds."""
    generator = torch.Generator().manual_seed(0)
    looks = torch.randn(kinds, channels, generator=generator)
    half = side // 2
    while True:
        kind = torch.randint(kinds, (images, 2, 2), generator=generator)
        whole = kind.repeat_interleave(half, 1).repeat_interleave(half, 2)
        noise = 0.5 * torch.randn(images, side, side, channels, generator=generator)
        corners = torch.cartesian_prod(torch.arange(2), torch.arange(2)).flip(1) / 2
        boxes = torch.cat((corners, corners + 0.5), dim=1).repeat(images, 1)
        yield (looks[whole] + noise).flatten(1, 2), boxes, kind.flatten()


def test_it_learns_where_a_box_is():
    """The object in a box among four, seldom alike: without its place a quarter would be right."""
    torch.manual_seed(0)
    model = Prompter(channels=32, embed_channels=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    images = torch.arange(16).repeat_interleave(4)
    right = []
    for _, (features, boxes, kinds) in zip(range(150), objects(16, 4, 32, kinds=8)):
        logits = model.of_boxes(features, (4, 4), images, boxes)
        loss = torch.nn.functional.cross_entropy(logits, kinds)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right.append((logits.argmax(dim=1) == kinds).float().mean())
    assert torch.stack(right[-20:]).mean() > 0.9


@pytest.mark.parametrize("kind", [Prompter, RoIAlignPrompter])
def test_no_regions_at_all_still_have_gradients(kind):
    model = kind(channels=16, embed_channels=8)
    features = tokens().float().requires_grad_()
    nothing = torch.zeros(0, dtype=torch.int64)
    found = model.of_boxes(features, GRID, nothing, torch.zeros(0, 4))
    if kind is Prompter:
        found = torch.cat((found, model.of_texts(features, GRID, nothing, torch.zeros(0, 8))))
    found.sum().backward()
    assert found.shape == (0, 8)
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters())


@torch.no_grad()
def test_a_text_prompts_as_one_token():
    model = prompter()
    texts = torch.randn(3, 8, generator=torch.Generator().manual_seed(2)).double()
    found = model.of_texts(tokens(), GRID, IMAGES, texts)
    assert found.shape == (3, 8)
    assert (found[0] - found[2]).abs().max() > 1e-3
    boxes = BoxHead(embed_channels=8).double()(found)
    assert boxes.shape == (3, 4)
    assert 0 < boxes.min()
    assert boxes.max() < 1


@torch.no_grad()
def test_roi_align_is_the_mean_of_what_is_in_the_box():
    """A map that is constant in each cell; a box well inside of the cell has its features."""
    model = RoIAlignPrompter(channels=16, embed_channels=8)
    plain = tokens(1).float()[0].reshape(2, 3, 16)
    features = plain.repeat_interleave(4, 0).repeat_interleave(4, 1).reshape(1, -1, 16)
    box = torch.tensor([[1.5 / 12, 5.5 / 8, 2.5 / 12, 6.5 / 8]])  # column 0, row 1
    found = model.of_boxes(features, (8, 12), torch.zeros(1, dtype=torch.int64), box)
    torch.testing.assert_close(found[0], model.projection.weight @ plain[1, 0])
