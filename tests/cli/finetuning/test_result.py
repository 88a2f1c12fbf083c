"""Which weights between base and tuned model are the result."""

import math

from glipv2_d2.cli.finetuning.result import Point, choose


def points(*rows):
    """(alpha, AP on one's own data, AP on the old classes) each."""
    return {alpha: Point(alpha, own, {"old": old}) for alpha, own, old in rows}


def test_the_best_on_old_classes_of_those_that_lose_little_on_the_own():
    rows = (0, 20, 60), (0.25, 48, 59), (0.5, 59.2, 57), (0.75, 61, 52), (1, 60, 40)
    assert choose(points(*rows)) == 0.5


def test_the_tuned_model_where_nothing_is_gained():
    assert choose(points((0, 20, 60), (0.5, 30, 59), (1, 60, 50))) == 1
    assert (
        choose(points((0, 20, 60), (0.5, 60, 50), (1, 60, 50))) == 1
    )  # equal: all that it learned


def test_never_the_base_itself():
    assert choose(points((0, 60, 60), (0.25, 60, 55), (1, 60, 50))) == 0.25


def test_without_old_classes():
    assert choose({0.0: Point(0, 20, {}), 1.0: Point(1, 60, {})}) == 1
    assert choose(points((0, 20, math.nan), (0.5, 60, math.nan), (1, 60, math.nan))) == 1


def test_the_mean_of_several_old_sets():
    several = {
        0.0: Point(0, 20, {"a": 60, "b": 60}),
        0.5: Point(0.5, 60, {"a": 50, "b": 20}),
        1.0: Point(1, 60, {"a": 40, "b": 40}),
    }
    assert choose(several) == 1


def test_results_become_a_point():
    results = {"mine_val": {"bbox": {"AP": 5}}, "old": {"bbox": {"AP": None}}}
    point = Point.of(0.5, results, "mine_val")
    assert point.own == 5 and math.isnan(point.old["old"])
