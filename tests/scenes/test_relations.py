import numpy as np
import pytest

from glipv2_d2.scenes.relations import MARGIN, RELATIONS, holds, plainly_first

CENTER = (0.5, 0.5)


@pytest.mark.parametrize(
    ("relation", "place"),
    list(zip(RELATIONS, [(0.3, 0.45), (0.7, 0.55), (0.45, 0.3), (0.55, 0.7)])),
)
def test_a_relation_holds_on_its_own_side_only(relation, place):
    opposite = (1 - place[0], 1 - place[1])
    assert holds(place, relation, CENTER) is True
    assert holds(opposite, relation, CENTER) is False


def test_what_is_near_or_askew_is_undecided():
    assert holds((0.45, 0.5), "left of", CENTER) is None  # within the margin
    assert holds((0.35, 0.2), "left of", CENTER) is None  # rather above
    assert holds((0.54, 0.5), "left of", CENTER) is None


def test_only_a_plain_first_is_named():
    assert plainly_first(np.array([0.5, 0.2, 0.35]), MARGIN) == 1
    assert plainly_first(np.array([0.5, 0.3, 0.35]), MARGIN) is None
