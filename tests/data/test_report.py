import logging
import pickle

import torch

from glipv2_d2.data.report import Report


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
