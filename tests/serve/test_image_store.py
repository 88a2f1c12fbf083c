"""As many images as there is room for, as long as they are asked about."""

from types import SimpleNamespace

import pytest

from glipv2_d2.errors import UsageError
from glipv2_d2.serve.image_store import ImageStore, UnknownImage


@pytest.fixture
def clock():
    return SimpleNamespace(now=0.0)


@pytest.fixture
def store(clock):
    return ImageStore(100, 60.0, lambda: clock.now)


def image(memory):
    return SimpleNamespace(memory=memory)


def test_the_image_that_was_asked_longest_ago_makes_room(store):
    first, second, third = image(40), image(40), image(50)
    one, two = store.add(first), store.add(second)
    assert store.get(one) is first and store.used == 80
    three = store.add(third)
    assert (store.get(one), store.get(three)) == (first, third)
    with pytest.raises(UnknownImage):
        store.get(two)
    assert store.used == 90 and len(store) == 2


def test_an_image_that_nobody_asks_about_goes(store, clock):
    kept, forgotten = store.add(image(1)), store.add(image(1))
    for clock.now in (50.0, 100.0):
        assert store.get(kept) is not None
    assert len(store) == 1
    with pytest.raises(UnknownImage):
        store.get(forgotten)
    clock.now = 161.0
    assert len(store) == 0 and store.used == 0


def test_an_image_that_is_larger_than_all_the_room(store):
    small = image(10)
    name = store.add(small)
    with pytest.raises(UsageError, match="takes 101 bytes and the cache has 100: .* --cache-mb"):
        store.add(image(101))
    assert store.get(name) is small


def test_ids_cannot_be_guessed(store):
    names = {store.add(image(1)) for _ in range(50)}
    assert len(names) == 50 and min(map(len, names)) >= 32
