"""Means, deviations and tables of transfer on hand-worked numbers."""

import csv
import io

import pytest

from glipv2_d2.evaluation.transfer import (
    TransferRun,
    averages_table,
    scores_csv,
    summarize,
    transfer_table,
)

NAMES = ["pets", "boats"]


def few_shot(shots, split="test", by=1.0):
    """The seeds' averages are 15, 20, 25 times `by`."""
    values = {"pets": (10, 20, 30), "boats": (20, 20, 20)}
    return [
        TransferRun(name, split, by * values[name][k], shots, seed)
        for name in NAMES
        for k, seed in enumerate((3, 30, 300))
    ]


def zero_shot(split="test"):
    return [TransferRun("pets", split, 1.0), TransferRun("boats", split, 2.0)]


def test_old_sets_come_after_test_and_val():
    lines = summarize([*zero_shot("before"), *zero_shot("val"), *zero_shot()], NAMES)
    assert [line.split for line in lines] == ["test", "val", "before"]
    table = transfer_table("", lines, {"pets": "Pets", "boats": "Boats"}, {"Tune": "-"})
    assert table.markdown().splitlines()[0] == "| Tune | Shot | Split | Pets | Boats | Avg |"
    assert table.markdown().splitlines()[2] == "| - | 0 | test | 1.0 | 2.0 | 1.5 |"


def test_averages_by_the_number_of_shots():
    full = summarize([*zero_shot(), *few_shot(3), *few_shot(3, "val"), *few_shot(3, "old")], NAMES)
    prompt = summarize([*zero_shot(), *few_shot(10, by=2)], NAMES)
    table = averages_table("", {"full": full, "prompt": prompt})
    assert list(table.columns) == ["Tune", "Split", "0", "3", "10"]
    deviation = (50 / 3) ** 0.5
    (first, old, second) = table.rows
    assert first[:2] == ["full", "test"] and old[:2] == ["full", "old"]
    assert first[2] == (1.5, None) and first[3] == (20, pytest.approx(deviation))
    assert second[4] == (40, pytest.approx(2 * deviation))
    assert [str(cell) for cell in second[2:]] == ["1.5", "-", "40.0 ± 8.2"]
    rows = list(csv.DictReader(io.StringIO(scores_csv(table))))
    assert rows[2] == {
        "Tune": "prompt", "Split": "test", "0": "1.5", "0 std": "", "3": "", "3 std": "",
        "10": "40.0", "10 std": str(2 * deviation),
    }  # fmt: skip
