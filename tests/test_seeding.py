"""Random numbers that follow from where a run is."""

import random

import numpy as np
import torch

from glipv2_d2.seeding import seed, seeded


def drawn():
    """A number of each library that draws."""
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_equal_numbers_give_equal_streams_and_others_unrelated_ones():
    streams = []
    for numbers in ((1, 2), (1, 2), (2, 1), (1, 3)):
        seed(*numbers)
        streams.append(drawn())
    assert streams[0] == streams[1]
    assert len({value for stream in streams[1:] for value in stream}) == 9


def test_what_is_drawn_in_the_context_shifts_nothing_outside():
    seed(0)
    expected = drawn()
    seed(0)
    with seeded(1, 2):
        inside = drawn()
    assert drawn() == expected
    with seeded(1, 2):
        assert drawn() == inside != expected
