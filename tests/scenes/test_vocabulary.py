from collections import Counter

from glipv2_d2.scenes import vocabulary as v


def test_twelve_balanced_pairs_are_held_out():
    assert len(set(v.HELD_OUT_PAIRS)) == 12
    assert len(v.ALL_PAIRS) == 64 and len(v.BASE_PAIRS) == 52
    assert not set(v.BASE_PAIRS) & set(v.HELD_OUT_PAIRS)
    for position, words in enumerate((v.COLORS, v.SHAPES)):
        lost = Counter(pair[position] for pair in v.HELD_OUT_PAIRS)
        assert set(lost) == set(words) and set(lost.values()) == {1, 2}
        kept = Counter(pair[position] for pair in v.BASE_PAIRS)
        assert min(kept[word] for word in words) >= 6


def test_categories_keep_their_ids_in_every_file():
    everything = v.categories(v.ALL_PAIRS)
    assert [c["id"] for c in everything] == list(range(1, 65))
    by_id = {c["id"]: c["name"] for c in everything}
    base = v.categories(v.BASE_PAIRS)
    assert len(base) == 52 and all(by_id[c["id"]] == c["name"] for c in base)
    assert tuple(by_id.values()) == v.ALL_CLASSES
    assert set(v.NOVEL_CLASSES) == set(v.ALL_CLASSES) - set(v.BASE_CLASSES)
