"""The contrastive loss over several processes: the same loss and gradients as one has."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.utils import comm
from torch import nn

from glipv2_d2 import compat
from glipv2_d2.modeling.contrast import RegionWordContrast
from glipv2_d2.modeling.processes import gather_rows
from glipv2_d2.modeling.text import TextFeatures
from tests.support.contrast_cases import (
    CHANNELS,
    SIZES,
    TEXT_CHANNELS,
    features_of,
    make_targets,
    mixed_images,
    naive_loss,
)

OWN_SIZES = [((3, 4), (1, 2)), ((5, 2), (2, 1)), ((2, 7), (1, 3)), ((2, 3), (1, 1))]


class Model(nn.Module):
    """A backbone of one layer for each of image and text, and the loss."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.linear = nn.Linear(TEXT_CHANNELS, TEXT_CHANNELS)
        self.contrast = RegionWordContrast(
            channels=CHANNELS, text_channels=TEXT_CHANNELS, embed_channels=4, temperature=0.5
        )

    def features(self, levels, text):
        hidden = self.linear(text.hidden)
        return [self.conv(level) for level in levels], TextFeatures(hidden, hidden, text.mask)

    def forward(self, levels, text, targets):
        return self.contrast(*self.features(levels, text), targets)


def make_model():
    torch.manual_seed(0)
    return Model().double()


def share(images, start, count, sizes=SIZES):
    """Inputs of images `start` to `start + count` - 1: the same whoever asks for them.

    `sizes`: of the pyramid of all of them, or a list with each one's own: those of the share are
    then padded to its largest.
    """
    images, seeds = images[start : start + count], range(start, start + count)
    own = sizes[start : start + count] if isinstance(sizes, list) else [sizes] * count
    # Prompts are padded to the longest of the share: its own for each process.
    targets = make_targets(*images)
    targets.words[:, 1] &= torch.tensor(seeds) % 3 != 1  # some words are masked
    parts = [
        features_of(make_targets(image), seed=seed, sizes=extent)
        for image, seed, extent in zip(images, seeds, own)
    ]
    levels = [pad([x.detach()[0] for x in level], 0) for level in zip(*(p[0] for p in parts))]
    targets = targets._replace(**positions_of(images, own))
    hidden = torch.zeros(*targets.words.shape, TEXT_CHANNELS, dtype=torch.float64)
    for row, (_, text) in zip(hidden, parts):
        row[: text.hidden.shape[1]] = text.hidden[0].detach()
    return levels, TextFeatures(hidden, hidden, targets.words), targets


def pad(maps, value):
    """(B, ..., h, w) of the largest height and width, `value` right of and below each map."""
    height, width = (max(x.shape[d] for x in maps) for d in (-2, -1))
    room = [(0, width - x.shape[-1], 0, height - x.shape[-2]) for x in maps]
    return torch.stack([F.pad(x, margin, value=value) for x, margin in zip(maps, room)])


def positions_of(images, sizes):
    """The targets' fields of padded positions; boxes are at the image's own 0, 2, 4, ..."""
    matches, inside = [], []
    for image, extent in zip(images, sizes):
        areas = [height * width for height, width in extent]
        row = make_targets(image, positions=sum(areas)).matches[0].split(areas)
        matches.append([part.unflatten(0, size) for part, size in zip(row, extent)])
        inside.append([torch.ones(size, dtype=torch.bool) for size in extent])
    fields = {"matches": (matches, -1), "inside": (inside, False)}
    return {
        name: torch.cat([pad(level, value).flatten(1) for level in zip(*maps)], dim=1)
        for name, (maps, value) in fields.items()
    }


def cases(count):
    """Images, and the sizes of the pyramid of each of two shares, or of each image."""
    images = mixed_images()
    empty = [(prompt, []) for prompt, _ in images]
    return {
        "mixed": (images[:count], (SIZES, SIZES)),
        "ragged": (images[4 : 4 + count], (SIZES, ((2, 3),))),
        # One share knows no box at all, then none does; the collectives must still match.
        "half": (images[: count // 2] + empty[count // 2 : count], (SIZES, SIZES)),
        "none": (empty[:count], (SIZES, SIZES)),
        # Images of a batch have sizes of their own: processes pad to different ones.
        "padded": (images[:count], (OWN_SIZES[:count], OWN_SIZES[:count])),
    }


def report(loss, model):
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


def _worker(folder, names, count):
    """One process: its loss and the averaged gradients of every case."""
    model = make_model()
    wrapped = compat.create_ddp_model(model)
    rank, world = comm.get_rank(), comm.get_world_size()
    reports = {}
    for name in names:
        images, sizes = cases(count)[name]
        part = count // world
        model.zero_grad()
        loss = wrapped(*share(images, rank * part, part, sizes[rank % 2]))
        loss.backward()
        reports[name] = report(loss, model)
    reports["gathered"] = _gather_own_rows(rank, world)
    torch.save(reports, folder / f"{rank}.pth")


def _gather_own_rows(rank, world):
    """Rank r has r rows of r + 1; each process weighs part q by (rank + 1) * 10 ** q."""
    rows = torch.full((rank, 2), rank + 1.0, requires_grad=True)
    parts = gather_rows(rows)
    sum(part.sum() * (rank + 1) * 10**q for q, part in enumerate(parts)).backward()
    labels = gather_rows(torch.arange(rank))
    return [p.detach() for p in parts], rows.grad, labels


def run(tmp_path, processes, count, names):
    compat.launch(
        _worker, 0, num_processes=processes, dist_url="auto", args=(tmp_path, names, count)
    )
    return [torch.load(tmp_path / f"{rank}.pth") for rank in range(processes)]


def check(reports, name, expected):
    """The mean of the losses; gradients after DDP, the same everywhere; float64."""
    loss, gradients = expected
    losses = [r[name][0] for r in reports]
    assert sum(losses) / len(losses) == pytest.approx(loss, rel=1e-9, abs=1e-12)
    for one in reports:
        assert one[name][1].keys() == gradients.keys()
        for key, gradient in gradients.items():
            torch.testing.assert_close(one[name][1][key], gradient, rtol=1e-6, atol=1e-9)


def alone(name, count):
    """One process with all images."""
    images, (sizes, _) = cases(count)[name]
    model = make_model()
    loss = model(*share(images, 0, count, sizes))
    loss.backward()
    return report(loss, model)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, quick_processes):
    """One test for all: starting processes is what takes the time."""
    count, names = 4, ["mixed", "ragged", "half", "none", "padded"]
    reports = run(tmp_path, 2, count, names)
    for name in ("mixed", "half", "none", "padded"):
        check(reports, name, alone(name, count))
    assert reports[0]["none"][0] == 0
    # The shares of the loss differ, or the test would not show that they are averaged.
    assert reports[0]["mixed"][0] != pytest.approx(reports[1]["mixed"][0], rel=0.01)

    # Other sizes of images in the other process: against plain loops over both shares.
    images, sizes = cases(count)["ragged"]
    model = make_model()
    parts = [share(images, 2 * i, 2, sizes[i]) for i in range(2)]
    embedded = [(*model.features(levels, text), targets) for levels, text, targets in parts]
    loss = naive_loss(model.contrast, embedded)
    loss.backward()
    check(reports, "ragged", report(loss, model))

    for rank, one in enumerate(reports):
        rows, gradient, labels = one["gathered"]
        assert [part.tolist() for part in rows] == [[], [[2.0, 2.0]]]
        assert gradient.tolist() == [[30.0, 30.0]] * rank  # (1 + 2) * 10
        assert [part.tolist() for part in labels] == [[], [0]]


@pytest.mark.slow
def test_four_processes_with_two_images_equal_one_with_eight(tmp_path, quick_processes):
    reports = run(tmp_path, 4, 8, ["mixed"])
    check(reports, "mixed", alone("mixed", 8))
