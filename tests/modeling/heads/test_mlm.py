"""Which words are masked and how often; the head and its loss."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from glipv2_d2.language import Prompt
from glipv2_d2.modeling.heads import TrainingBatch, mlm
from glipv2_d2.modeling.heads.mlm import MaskedLanguageHead, maskable_words

MASK_ID = 103  # BERT's
NONE = torch.tensor([], dtype=torch.long)


def small_head(**options):
    torch.manual_seed(0)
    return MaskedLanguageHead(text_channels=8, vocabulary_size=20, **options)


def batch_of(tokens, prompts, gt_phrases=None):
    gt_phrases = [NONE] * len(prompts) if gt_phrases is None else gt_phrases
    nothing = torch.zeros_like(tokens.mask)
    known = torch.ones(len(prompts), dtype=torch.bool)
    return TrainingBatch([{}] * len(prompts), prompts, tokens, gt_phrases, known, tokens, nothing)


def loss_of(module, words, labels):
    """The head on words (B, T, L) and labels (B, T), -100 where nothing is asked."""
    return module(words[labels != -100], labels[labels != -100])


def words_of(tokenizer, prompts, gt_phrases):
    """The tokens, as text, that may be masked in each prompt."""
    tokens = tokenizer(prompts)
    allowed = maskable_words(tokens, prompts, gt_phrases)
    assert not (allowed & ~tokens.mask).any()
    return [
        tokenizer.tokenizer.convert_ids_to_tokens(ids[row])
        for ids, row in zip(tokens.input_ids, allowed)
    ]


def test_detection_prompt_only_names_in_the_image(tokenizer):
    prompt = Prompt.from_classes(["cat", "red kite", "dog"])
    assert words_of(tokenizer, [prompt], [torch.tensor([1, 1, 2])]) == [["red", "kite", "dog"]]
    assert words_of(tokenizer, [prompt], [NONE]) == [[]]


def test_caption_all_words_with_and_without_boxes(tokenizer):
    prompt = Prompt.from_caption("a red kite.", [[(2, 10)]])
    short = Prompt.from_classes(["cat"])  # padded beside the others
    assert words_of(tokenizer, [prompt, short, prompt], [torch.tensor([0]), NONE, NONE]) == [
        ["a", "red", "kite", "."],
        [],
        ["a", "red", "kite", "."],
    ]


def test_captions_of_other_images_are_not_masked(tokenizer):
    text = "two dogs. a red kite. the sea"
    prompt = Prompt.from_caption(text, [[(12, 20)]], own_span=(10, 20))
    assert words_of(tokenizer, [prompt], [torch.tensor([0])]) == [["a", "red", "kite"]]


def test_special_tokens_written_in_a_caption_are_words(tokenizer):
    prompt = Prompt.from_caption("a [SEP] red [MASK] kite", [[(8, 11)]])
    words = ["a", "[", "sep", "]", "red", "[", "mask", "]", "kite"]
    assert words_of(tokenizer, [prompt], [NONE]) == [words]


def test_words_that_the_vocabulary_lacks_are_not_masked(tokenizer):
    prompt = Prompt.from_caption("a \N{CAT FACE} kite", [[(4, 8)]])
    assert words_of(tokenizer, [prompt], [NONE]) == [["a", "kite"]]


def test_rates(tokenizer):
    """15 % of the words; of these 80, 10 and 10 %. Bounds: five standard deviations."""
    caption = "dog " * 200
    prompts = [Prompt.from_caption(caption, [[(0, 3)]])] * 100 + [Prompt.from_classes(["cat"])]
    tokens = tokenizer(prompts)
    torch.manual_seed(0)
    head = MaskedLanguageHead(text_channels=4, vocabulary_size=30522)
    batch = head.prepare_text(batch_of(tokens, prompts), tokenizer)
    shown, asked = batch.shown, batch.withheld
    dog = tokens.input_ids[0, 1]
    words = 100 * 200
    masked = (shown.input_ids[asked] == MASK_ID).sum().item()
    kept = (shown.input_ids[asked] == dog).sum().item()
    count = asked.sum().item()

    def near(value, of, rate):
        return abs(value - rate * of) < 5 * math.sqrt(of * rate * (1 - rate))

    assert near(count, words, 0.15)
    assert near(masked, count, 0.8) and near(kept, count, 0.1)
    assert near(count - masked - kept, count, 0.1)
    random_ids = shown.input_ids[asked & (shown.input_ids != MASK_ID) & (shown.input_ids != dog)]
    # Of about 300 draws from 30,522 entries some 1.5 pairs coincide; all over the vocabulary.
    assert len(random_ids.unique()) > len(random_ids) - 10
    assert random_ids.min() < 2000 and random_ids.max() > 28500
    assert (tokens.input_ids[asked] == dog).all()
    assert torch.equal(shown.input_ids[~asked], tokens.input_ids[~asked])
    assert not asked[100].any() and not (asked & ~tokens.mask).any()
    assert not asked[:, 0].any() and not asked[:100, 201].any()  # [CLS], [SEP]


def test_masking_leaves_the_tokens_of_the_prompt_as_they_are(tokenizer):
    prompts = [Prompt.from_caption("a red kite", [[(2, 10)]])]
    tokens = tokenizer(prompts)
    before = tokens.input_ids.clone()
    head = MaskedLanguageHead(text_channels=4, vocabulary_size=30522, mask_prob=1.0)
    batch = head.prepare_text(batch_of(tokens, prompts), tokenizer)
    assert batch.tokens is tokens and torch.equal(tokens.input_ids, before)
    assert batch.shown.mask is tokens.mask and batch.shown.positive_maps is tokens.positive_maps
    assert batch.withheld.tolist() == [[False, True, True, True, False]]


def test_masking_is_repeatable(tokenizer):
    prompts = [Prompt.from_caption("a red kite above two dogs", [[(2, 10)]])]
    tokens = tokenizer(prompts)
    head = MaskedLanguageHead(text_channels=4, vocabulary_size=30522, mask_prob=0.5)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(head.prepare_text(batch_of(tokens, prompts), tokenizer))
    assert torch.equal(draws[0].shown.input_ids, draws[1].shown.input_ids)
    assert torch.equal(draws[0].withheld, draws[1].withheld)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5])
def test_mask_prob_out_of_range(value):
    with pytest.raises(ValueError, match="mask_prob"):
        small_head(mask_prob=value)


def test_logits_against_the_formula():
    head = small_head()
    words = torch.randn(2, 3, 8)
    dense, _, norm = head.transform
    hidden = words @ dense.weight.T + dense.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    mean, variance = hidden.mean(-1, keepdim=True), hidden.var(-1, keepdim=True, unbiased=False)
    hidden = (hidden - mean) / (variance + norm.eps).sqrt()
    expected = hidden @ head.decoder.weight.T + head.decoder.bias
    # Sums of 8 terms of size 1 in float32.
    torch.testing.assert_close(head.logits(words), expected, atol=1e-5, rtol=1e-5)


def test_loss_is_the_mean_cross_entropy_of_the_masked_words():
    head = small_head(weight=0.5)
    words = torch.randn(2, 5, 8)
    labels = torch.full((2, 5), -100)
    labels[0, 1], labels[0, 3], labels[1, 2] = 7, 0, 19
    expected = F.cross_entropy(head.logits(words).flatten(0, 1), labels.flatten())
    torch.testing.assert_close(loss_of(head, words, labels), 0.5 * expected)


@pytest.mark.parametrize("first, second", [([1, 2, 3], [4]), ([1], [])])
def test_loss_of_several_processes(monkeypatch, first, second):
    """Two processes with these masked words: the average of both losses is that of one process."""
    head = small_head()
    words = torch.randn(2, 5, 8)
    labels = torch.full((2, 5), -100)
    for row, predicted in zip(labels, (first, second)):
        row[: len(predicted)] = torch.tensor(predicted)
    whole = loss_of(head, words, labels)
    mean = torch.tensor((len(first) + len(second)) / 2)
    monkeypatch.setattr(mlm, "mean_over_processes", lambda count: mean)
    parts = [loss_of(head, words[i : i + 1], labels[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_nothing_masked():
    head = small_head()
    words = torch.randn(2, 5, 8, requires_grad=True)
    loss = loss_of(head, words, torch.full((2, 5), -100))
    assert loss.item() == 0
    loss.backward()
    for tensor in (words, *head.parameters()):
        assert tensor.grad is not None and not tensor.grad.any()


def test_half_precision_words_give_a_float32_loss():
    head = small_head()
    words = 1e4 * torch.randn(2, 5, 8)
    words = words.bfloat16().requires_grad_()
    labels = torch.arange(10).reshape(2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(head, words, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(head, words.detach().float(), labels))
    loss.backward()
    assert torch.isfinite(words.grad).all()


def test_only_masked_words_go_through_the_decoder():
    head = small_head()
    seen = []
    head.decoder.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    labels = torch.full((2, 5), -100)
    labels[1, 2] = 4
    loss_of(head, torch.randn(2, 5, 8), labels)
    assert seen == [(1, 20)]


def test_tokens_that_do_not_say_what_a_word_is(tokenizer):
    prompts = [Prompt.from_classes(["cat"])]
    tokens = replace(tokenizer(prompts), own_words=None)
    with pytest.raises(ValueError, match="own_words"):
        small_head().prepare_text(batch_of(tokens, prompts), tokenizer)
