import logging
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from glipv2_d2.data.report import RecordError, Report, reported
from glipv2_d2.errors import DataError


class Counting(torch.utils.data.Dataset):
    def __init__(self, report):
        self.report = report

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.report.count("boxes", index)
        return index


def test_workers_count_into_the_main_process():
    report = Report(running=["boxes", "images"])
    loader = torch.utils.data.DataLoader(
        Counting(report), num_workers=2, multiprocessing_context="fork"
    )
    assert sum(map(int, loader)) == 190
    report.count("images")
    assert report.totals() == {"boxes": 190, "images": 1}


def test_logged_at_powers_of_ten(caplog):
    report = Report(running=["boxes"])
    with caplog.at_level(logging.WARNING):
        for _ in range(120):
            report.count("boxes", detail="a.jpg")
        report.count("boxes", 0)
    assert [r.getMessage() for r in caplog.records] == [
        f"boxes: {n} so far (a.jpg)" for n in (1, 10, 100)
    ]


def test_pickle():
    report = Report(running=["boxes"])
    report.count("boxes", 3)
    assert pickle.loads(pickle.dumps(report)).totals() == {"boxes": 3}


def test_a_spawned_worker_counts_into_the_same_memory():
    report = Report(running=["boxes"])
    copy = pickle.loads(ForkingPickler.dumps(report))  # as it is sent to that process
    copy.count("boxes", 3)
    assert report.totals() == {"boxes": 3}


@pytest.mark.parametrize("given", [Report("the data set"), None])
def test_whoever_makes_a_report_logs_it(given, caplog):
    with reported("a.json", given) as report:
        report.annotation("bad box", "a.json: image 1", "it has no area")
        report.warn("two classes are one")
    lines = [] if given else ["left out 1 annotation: 1 x bad box (first: a.json: image 1: it has "
                              "no area)", "two classes are one"]  # fmt: skip
    assert [r.getMessage() for r in caplog.records] == [f"a.json: {line}" for line in lines]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "raise"}, "image 1: it is gone. Repair the file, or leave such records out"),
        ({"drop_records": False}, "image 1: it is gone. Repair the file: a test over fewer"),
    ],
)
def test_a_record_that_must_not_be_dropped(options, message):
    report = Report(**options)
    report.unusable(RecordError("too few boxes", "image 1", "it was asked for", fault=False))
    with pytest.raises(DataError, match=message):
        report.unusable(RecordError("missing", "image 1", "it is gone"))
    assert report.records == 1 and report.no_faults == {"too few boxes"}
