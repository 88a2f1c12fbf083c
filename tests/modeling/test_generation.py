"""Captions written word by word: cached as recomputed, searched as by brute force."""

import itertools

import pytest
import torch

from glipv2_d2.errors import ConfigError, PromptTooLongError, UsageError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.generation import Decoding, Written, search, write_captions
from tests.support.tiny import tiny_model
from tests.support.tiny_captions import tiny_captioner
from tools.benchmark.captions import Recomputed

GREEDY = Decoding(beam_size=1, max_length=8)
BEAM = Decoding(beam_size=3, max_length=8)
NUCLEUS = Decoding(beam_size=1, max_length=8, top_p=0.8, temperature=1.5, seed=3)
UNWRITTEN = Prompt.unwritten()


def recomputed(model, features, prompts, decoding):
    """What `write_captions` gives, without a cache and one image after another."""
    tokenizer, results = model.tokenizer, []
    for i, prompt in enumerate(prompts):
        *start, end = tokenizer.encode(prompt.caption).ids
        words = Recomputed(model, [level[i : i + 1] for level in features])
        with torch.no_grad():
            ((tokens, score),) = search(
                words, torch.tensor([start]), end, tokenizer.writable, decoding
            )
        results.append(Written(tokenizer.decode(start + tokens), score))
    return results


def assert_same(actual, expected):
    assert [w.caption for w in actual] == [w.caption for w in expected]
    # Two layers of float32, attended in another order; log-probabilities of size 1 to 10.
    scores = [[w.score for w in written] for written in (actual, expected)]
    torch.testing.assert_close(*map(torch.tensor, scores), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("decoding", [GREEDY, BEAM, NUCLEUS], ids=["greedy", "beam", "nucleus"])
def test_cached_is_recomputed(captioner, features, decoding, count):
    """Token for token; a batch is what its images are one by one, since the reference is that."""
    features, prompts = [level[:count] for level in features], [UNWRITTEN] * count
    expected = recomputed(captioner, features, prompts, decoding)
    assert_same(write_captions(captioner, features, prompts, decoding), expected)
    if count > 1:  # and the images matter
        assert len({w.caption for w in expected}) > 1


@pytest.mark.parametrize("decoding", [GREEDY, BEAM])
def test_beginnings_of_different_lengths(captioner, features, decoding):
    prompts = [Prompt.unwritten(text) for text in ("a", "", "a red kite", "the")]
    written = write_captions(captioner, features, prompts, decoding)
    assert_same(written, recomputed(captioner, features, prompts, decoding))
    assert all(w.caption.startswith(p.caption) for w, p in zip(written, prompts))


class Table:
    """`NextWords` of a tiny vocabulary: random logits for each beginning, drawn from its ids."""

    def __init__(self, size=5, images=1):
        self.size, self.ids = size, None
        self.offsets = torch.arange(images) * 1000

    def logits(self, ids):
        images, beams = ids.shape[:2]
        rows = ids.flatten(0, 1)
        self.ids = rows if self.ids is None else torch.cat((self.ids, rows), dim=1)
        seeds = self.offsets.repeat_interleave(beams).tolist()
        made = [self.of(seed, row) for seed, row in zip(seeds, self.ids.tolist())]
        return torch.stack(made).unflatten(0, (images, beams))

    def of(self, seed, ids):
        number = sum((i + 1) * 7**place for place, i in enumerate(ids)) + 7**9 * seed
        return 2 * torch.randn(self.size, generator=torch.Generator().manual_seed(number))

    def select(self, texts):
        self.ids = self.ids[texts]


START, END, WRITABLE = 0, 1, torch.tensor([False, False, True, True, True])


def score_of(table, seed, tokens, p):
    """Rank and mean log-probability of a caption, its end included."""
    total, ids = 0.0, [START]
    for token in (*tokens, END):
        total += float(table.of(seed, ids).log_softmax(0)[token])
        ids.append(token)
    length = len(tokens) + 1
    return total / length**p, total / length


def searched(decoding, images=1, **options):
    start = torch.full((images, 1), START)
    return search(Table(images=images, **options), start, END, WRITABLE, decoding)


@pytest.mark.parametrize("p", [0.0, 1.0, 3.0, -1.0])
@pytest.mark.parametrize("shortest", [1, 3])
def test_a_beam_of_everything_finds_the_best_caption(p, shortest):
    decoding = Decoding(beam_size=500, max_length=4, min_length=shortest, length_penalty=p)
    for image, (tokens, score) in enumerate(searched(decoding, images=3)):
        every = [c for n in range(shortest, 5) for c in itertools.product((2, 3, 4), repeat=n)]
        best = max(every, key=lambda c: score_of(Table(), 1000 * image, c, p)[0])
        assert tuple(tokens) == best
        assert score == pytest.approx(score_of(Table(), 1000 * image, best, p)[1], abs=1e-5)


def beam_search(seed, size, longest, p):
    """In lists, for one image: (rank, tokens) of the best."""
    table, beam = Table(), [(0.0, 0.0, [], False)]
    for step in range(longest + 1):
        candidates = []
        for rank, total, tokens, ended in beam:
            if ended:
                candidates.append((rank, total, tokens, True))
                continue
            log_probs = table.of(seed, [START, *tokens]).log_softmax(0).tolist()
            allowed = [2, 3, 4] if step < longest else []
            for token in [*allowed, *([END] if step >= 1 else [])]:
                new = total + log_probs[token]
                candidates.append((new / (step + 1) ** p, new, [*tokens, token], token == END))
        beam = sorted(candidates, key=lambda c: -c[0])[:size]
    return beam[0][2][:-1]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_beam_search_is_that_of_a_plain_loop(size, p):
    decoding = Decoding(beam_size=size, max_length=6, length_penalty=p)
    found = [tokens for tokens, _ in searched(decoding, images=8)]
    assert found == [beam_search(1000 * image, size, 6, p) for image in range(8)]
    assert len(set(map(len, found))) > 2


def test_greedy_takes_the_most_probable_token():
    for image, (tokens, _) in enumerate(searched(GREEDY, images=4)):
        ids = [START]
        while len(ids) < 1 + GREEDY.max_length:
            logits = Table().of(1000 * image, ids).clone()
            logits[[START, *([END] if len(ids) == 1 else [])]] = -torch.inf
            ids.append(int(logits.argmax()))
            if ids[-1] == END:
                break
        assert tokens == [i for i in ids[1:] if i != END]


class Constant(Table):
    """The same logits whatever is written."""

    def __init__(self, *logits):
        super().__init__()
        self.constant = torch.tensor(logits)

    def of(self, seed, ids):
        return self.constant


@pytest.mark.parametrize(
    "options", [{"beam_size": 1}, {"beam_size": 3}, {"top_p": 0.9, "beam_size": 1}]
)
def test_lengths(options):
    start = torch.tensor([[START]])
    for end, length in ((50.0, 2), (-50.0, 4)):
        decoding = Decoding(**{"beam_size": 1, **options}, min_length=2, max_length=4)
        words = Constant(9.0, end, 3.0, 2.0, 1.0)
        ((tokens, score),) = search(words, start, END, WRITABLE, decoding)
        assert len(tokens) == length and set(tokens) <= {2, 3, 4}
        # The end token is in the score, also where it is forced.
        log_probs = words.constant.log_softmax(0)
        expected = float(log_probs[tokens + [END]].mean())
        assert score == pytest.approx(expected, rel=1e-5)


def test_nucleus_draws_from_the_most_probable_tokens_as_often_as_they_are():
    start = torch.tensor([[START]])
    words = [9.0, 9.0, *torch.tensor([0.5, 0.3, 0.2]).log().tolist()]
    counts = torch.zeros(5)
    for seed in range(400):
        decoding = Decoding(beam_size=1, max_length=1, top_p=0.7, seed=seed)
        ((tokens, _),) = search(Constant(*words), start, END, WRITABLE, decoding)
        counts[tokens] += 1
    # 0.5 and 0.3 are the nucleus of 0.7; 400 draws: standard deviation 0.024.
    assert counts[4] == 0 and counts[2] / 400 == pytest.approx(5 / 8, abs=0.1)


def test_temperature_and_top_p_of_one_reach_every_token():
    found = set()
    for seed in range(40):
        hot = Decoding(beam_size=1, max_length=1, top_p=1.0, temperature=100.0, seed=seed)
        found.update(searched(hot)[0][0])
    assert found == {2, 3, 4}


def test_sampling_is_seeded_and_touches_no_generator(captioner, features):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    prompts = [UNWRITTEN] * 4
    first = write_captions(captioner, features, prompts, NUCLEUS)
    assert first == write_captions(captioner, features, prompts, NUCLEUS)
    other = Decoding(beam_size=1, max_length=8, top_p=0.8, temperature=1.5, seed=4)
    assert first != write_captions(captioner, features, prompts, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("half", ["bf16 autocast", "bfloat16"])
def test_half_precision(captioner, features, half):
    prompts = [UNWRITTEN] * 4
    if half == "bfloat16":
        model = tiny_captioner("bert").bfloat16()
        written = write_captions(model, [f.bfloat16() for f in features], prompts, BEAM)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            written = write_captions(captioner, features, prompts, BEAM)
    assert all(w.caption and -30 < w.score < 0 for w in written)


def test_no_special_token_is_written(captioner, features):
    """Also where the model wants nothing else."""
    tokenizer = captioner.tokenizer
    assert not tokenizer.writable[tokenizer.tokenizer.all_special_ids].any()
    assert not tokenizer.writable[tokenizer.mask_token_id]
    assert tokenizer.writable.sum() > 0.95 * len(tokenizer.writable)


def test_unknown_words_of_a_beginning_are_told(captioner, features, caplog):
    """They are the token [UNK] to BERT, and not in its caption; CLIP knows every text."""
    prompts = [Prompt.unwritten("a 🦋 and"), UNWRITTEN]
    written = write_captions(captioner, [level[:2] for level in features], prompts, GREEDY)
    known = written[0].caption.startswith("a 🦋 and")
    assert known == (not captioner.tokenizer.unknown_words("a 🦋 and"))
    assert ("does not know '🦋' of 'a 🦋 and'" in caplog.text) == (not known)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"beam_size": 0}, "beam_size must be a whole number of 1 or more"),
        ({"beam_size": 2.0}, "beam_size must be a whole number"),
        ({"min_length": 0}, "min_length must be"),
        ({"min_length": 9, "max_length": 8}, "max_length must be .* at least min_length=9"),
        ({"length_penalty": float("nan")}, "length_penalty must be finite"),
        ({"top_p": 0.0, "beam_size": 1}, "top_p must be above 0"),
        ({"top_p": 0.9, "beam_size": 5}, "beam_size must be 1 for sampling"),
        ({"temperature": 0.0, "top_p": 0.9, "beam_size": 1}, "temperature must be finite"),
        ({"temperature": 0.5}, "temperature is for sampling: give top_p"),
        ({"seed": 4}, "seed is for sampling: give top_p"),
        ({"beam_size": True}, "beam_size must be a whole number"),
        ({"min_length": "2"}, "min_length must be a whole number"),
        ({"max_length": None}, "max_length must be a whole number"),
        ({"length_penalty": "long"}, "length_penalty must be finite"),
        ({"top_p": "0.9", "beam_size": 1}, "top_p must be above 0"),
        ({"temperature": None}, "temperature must be finite"),
        ({"seed": "x", "top_p": 0.9, "beam_size": 1}, "seed must be a whole number of 64 bits"),
        ({"seed": 2**64, "top_p": 0.9, "beam_size": 1}, "seed must be a whole number of 64 bits"),
    ],
)
def test_bad_decoding(options, message):
    with pytest.raises(UsageError, match=message):
        Decoding(**options)


def test_refused(captioner, features):
    one = [level[:1] for level in features]
    with pytest.raises(UsageError, match="'cat' is not a caption to be written.*unwritten"):
        write_captions(captioner, one, [Prompt.from_classes(["cat"])])
    grounded = Prompt.from_caption("a cat", [[(2, 5)]], kind="caption")
    with pytest.raises(UsageError, match="'a cat' is not a caption to be written"):
        write_captions(captioner, one, [grounded])
    limit = captioner.tokenizer.max_tokens
    with pytest.raises(
        PromptTooLongError, match=rf"3 tokens \('a dog'\), max_length={limit}.*{limit} tokens"
    ):
        write_captions(captioner, one, [Prompt.unwritten("a dog")], Decoding(max_length=limit))
    plain = tiny_model()
    with pytest.raises(ConfigError, match="this GLIP has no caption head.*model.caption_head"):
        write_captions(plain, one, [UNWRITTEN])
