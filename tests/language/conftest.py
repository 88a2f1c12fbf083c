import pytest

from glipv2_d2.language import NOUN_PHRASE_EXTRACTORS


@pytest.fixture
def extractors(monkeypatch):
    """The registry of noun-phrase extractors; what a test registers is forgotten after it."""
    monkeypatch.setattr(NOUN_PHRASE_EXTRACTORS, "_obj_map", dict(NOUN_PHRASE_EXTRACTORS))
    return NOUN_PHRASE_EXTRACTORS
