"""The regions of a collection on the disk: what is found, and what a kill leaves."""

import itertools
import os
import signal
import sqlite3
import time

import numpy as np
import pytest

from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.search import store as store_module
from glipv2_d2.search.store import ImageRegions, RegionStore

DIM = 8
MADE_BY = {"config": "c.py", "weights": "w.safetensors", "overrides": [], "prompt": "cat"}


def opened(folder, fingerprint="f", **made_by):
    return RegionStore.for_writing(folder, fingerprint, DIM, MADE_BY | made_by)


def unit(*shape, seed=0):
    rows = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def image(name, count=3, seed=0, stamp=(1, 2)):
    """Its boxes are side by side."""
    left = 10 * np.arange(count, dtype=np.float32)
    boxes = np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1)
    vectors = unit(count, DIM, seed=seed)
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    return ImageRegions(name, list(stamp), 10, 10 * count, boxes, scores, vectors)


def images(count, first=0):
    return [image(f"{i}.jpg", 1 + i % 4, seed=i) for i in range(first, first + count)]


def expected(known, vector, top):
    """(file, box) of the best, one by one."""
    rows = [
        (float(embedding @ vector), of.file, box.tolist())
        for of in known
        for box, embedding in zip(of.boxes, of.embeddings)
    ]
    return [row[1:] for row in sorted(rows, reverse=True)[:top]]


def found(store, vector, top):
    return [(match.file, match.box) for match in store.search(vector[None], top)[0]]


@pytest.fixture
def few_are_many(monkeypatch):
    """Lists are made from 50 regions on, and all of them are looked into."""
    pytest.importorskip("faiss", reason="pip install 'glipv2_d2[search]'")
    monkeypatch.setattr(store_module, "EXACT_MOST", 50)


def lists_of(folder):
    return sorted(path.name for path in folder.glob("*.faiss"))


def test_the_nearest_regions_are_found_after_each_change(tmp_path, few_are_many):
    queries, known = unit(3, DIM, seed=99), {}

    def check(store):
        for query in queries:
            for top in (1, 5, 400):
                assert found(store, query, top) == expected(known.values(), query, top)

    with opened(tmp_path) as store:
        check(store)  # nothing is there
        for made in (images(20), images(30, 20), [image("0.jpg", 4, seed=77)], images(2, 50)):
            store.add(made)
            known |= {of.file: of for of in made}
            check(store)
            store.build()
            check(store)
        (name,) = lists_of(tmp_path)  # those of 50 images: what came then is little
        store.remove(["3.jpg", "7.jpg"])
        del known["3.jpg"], known["7.jpg"]
        check(store)
        with RegionStore(tmp_path) as other:  # as another process sees it
            check(other)
            store.add(images(40, 100))
            known |= {of.file: of for of in images(40, 100)}
            check(other)
            store.build()
            assert lists_of(tmp_path) != [name] and len(lists_of(tmp_path)) == 1
            check(store)
        assert store.counts() == (len(known), sum(len(of.boxes) for of in known.values()))


def test_a_match_says_where_it_is(tmp_path):
    with opened(tmp_path) as store:
        store.add([image("empty.jpg", 0), image("a.jpg"), image("b.jpg", seed=5)])
        ((match, *_),) = store.search(image("b.jpg", seed=5).embeddings[1:2], 3)
        assert match.file == "b.jpg" and (match.height, match.width) == (10, 30)
        assert match.box == [10, 0, 20, 10] and match.score == pytest.approx(1, abs=1e-5)
        assert match.detection_score == pytest.approx(0.7)
        assert store.match(match.region).box == match.box
        store.add([image("b.jpg", seed=6)])
        assert store.match(match.region) is None and store.match(10**9) is None
        store.add([image("c.jpg")._replace(scores=None)])
        assert {m.detection_score is None for m in store.search(unit(1, DIM), 9)[0]} == {
            True,
            False,
        }
        assert store.stamps() == {name: [1, 2] for name in ("empty.jpg", "a.jpg", "b.jpg", "c.jpg")}


def test_a_number_is_never_given_twice(tmp_path):
    with opened(tmp_path) as store:
        store.add([image("a.jpg")])
        store.remove(["a.jpg"])
        store.add([image("b.jpg")])
        assert store.match(0) is None and store.match(3).file == "b.jpg"


def test_of_regions_that_overlap_the_best_is_found(tmp_path):
    same, near = image("a.jpg", 2), image("b.jpg", 2)
    same.boxes[1] = same.boxes[0] + 1
    near.boxes[1] = near.boxes[0] + 8
    with opened(tmp_path) as store:
        store.add([same, near])
        for query in (same.embeddings[0], same.embeddings[1]):
            (matches,) = store.search(query[None], 10)
            assert [m.file for m in matches].count("a.jpg") == 1 and len(matches) == 3
            assert matches[0].score == pytest.approx(1, abs=1e-5)


def test_another_embedder_is_refused_and_its_place_is_not(tmp_path):
    opened(tmp_path).add([image("a.jpg")])
    with pytest.raises(UsageError, match=f"'{tmp_path}' was made with another prompt, and"):
        opened(tmp_path, "g", prompt="dog")
    with pytest.raises(UsageError, match="with another model"):  # the file has changed
        opened(tmp_path, "g")
    assert opened(tmp_path, weights="elsewhere.safetensors").counts() == (1, 3)
    assert RegionStore(tmp_path).made_by["weights"] == "elsewhere.safetensors"


def test_what_is_no_index(tmp_path):
    with pytest.raises(DataError, match=f"no index in '{tmp_path}': `glip index` makes one"):
        RegionStore(tmp_path)
    (tmp_path / "regions.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(DataError, match="cannot be used: file is not a database"):
        RegionStore(tmp_path)
    (tmp_path / "regions.sqlite").unlink()
    opened(tmp_path)
    rows = sqlite3.connect(tmp_path / "regions.sqlite")
    rows.executescript("PRAGMA user_version = 7")
    rows.close()
    with pytest.raises(DataError, match="is of version 7, and this is for version 1: make it anew"):
        RegionStore(tmp_path)


def test_lists_of_another_database_are_removed(tmp_path, few_are_many):
    with opened(tmp_path) as store:
        store.add(images(50))
        store.build()
    (tmp_path / "regions.sqlite").unlink()
    assert lists_of(tmp_path)
    assert opened(tmp_path).search(unit(1, DIM), 3) == [[]] and not lists_of(tmp_path)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_leaves_whole_batches(tmp_path):
    opened(tmp_path).__exit__()
    for round_ in range(3):
        child = os.fork()
        if not child:
            with RegionStore(tmp_path) as store:
                for i in itertools.count():
                    store.add([image(f"{round_}-{i}-{k}.jpg", 50, seed=k) for k in range(3)])
        while not (tmp_path / "regions.sqlite-journal").exists():
            time.sleep(0.001)
        time.sleep(0.01 * round_)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with RegionStore(tmp_path) as store:
            batches = [name.rpartition("-")[0] for name in store.stamps()]
            assert all(batches.count(batch) == 3 for batch in set(batches))
            assert store.counts() == (len(batches), 50 * len(batches))
            matches = store.search(image("", 50, seed=1).embeddings[7:8], len(batches))[0]
            assert all(match.box == [70, 0, 80, 10] for match in matches[: len(batches) // 3])
