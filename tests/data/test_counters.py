import logging
import pickle

import torch

from glipv2_d2.data.counters import Counters


class Counting(torch.utils.data.Dataset):
    def __init__(self, counters):
        self.counters = counters

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.counters.add("boxes", index)
        return index


def test_workers_count_into_the_main_process():
    counters = Counters(["boxes", "images"], "test")
    loader = torch.utils.data.DataLoader(
        Counting(counters), num_workers=2, multiprocessing_context="fork"
    )
    assert sum(map(int, loader)) == 190
    counters.add("images")
    assert counters.total() == {"boxes": 190, "images": 1}


def test_logged_at_powers_of_ten(caplog):
    counters = Counters(["boxes"], "test")
    with caplog.at_level(logging.WARNING):
        for _ in range(120):
            counters.add("boxes", detail="a.jpg")
        counters.add("boxes", 0)
    assert [r.getMessage() for r in caplog.records] == [
        f"boxes: {n} so far (a.jpg)" for n in (1, 10, 100)
    ]


def test_pickle():
    counters = Counters(["boxes"], "test")
    counters.add("boxes", 3)
    assert pickle.loads(pickle.dumps(counters)).total() == {"boxes": 3}
