"""Text structure per sample: a causal text leaks nothing backwards, and nothing to the image."""

import re
from dataclasses import replace

import pytest
import torch

from glipv2_d2.language import Prompt

CAPTION = "a red kite above two dogs"
# Of other kinds and lengths, so that the caption is padded and not alone.
OTHERS = (
    Prompt.from_classes(["cat", "red kite", "traffic light", "dog"]),
    Prompt.from_caption("is the kite red?", [[(7, 15)]], kind="question"),
    Prompt.unwritten("a dog"),
)
WORDS = re.compile(
    r"body\.embeddings|token_embedding|body\.encoder\.layer\.\d+\.(attention\.)?output"
    r"|layers\.\d+|final_norm"
)


def batch(model, first):
    return model.tokenizer([first, *OTHERS])


def text_states(model):
    """Every module whose output holds words, with its name."""
    names = {
        module: name
        for name, module in model.language_backbone.named_modules()
        if WORDS.fullmatch(name)
    }
    for number, block in enumerate(model.neck.blocks):
        names[block.fusion] = f"fusion of block {number}"
        names[block.text_layer] = f"text layer of block {number}"
    return names


def states(model, features, tokens):
    """Each layer's words, (B, T, L), the caption head's logits (B, T, V), and the fused levels."""
    found, handles = {}, []
    for module, name in text_states(model).items():

        def keep(_, __, output, name=name):
            found[name] = output[1] if isinstance(output, tuple) else output

        handles.append(module.register_forward_hook(keep))
    levels, words = model.neck(features, model.language_backbone(tokens))
    for handle in handles:
        handle.remove()
    found["logits"] = model.caption_head.logits(words, model.language_backbone.word_embedding)
    return found, levels


def replaced(tokens, place, new):
    ids = tokens.input_ids.clone()
    ids[0, place] = new
    return replace(tokens, input_ids=ids)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_no_layer_sees_a_later_word(captioner, features, mode, precision):
    """Each word in turn becomes another one: what stands before it stays, to the last bit."""
    model = captioner.train(mode == "train")
    tokens = batch(model, Prompt.unwritten(CAPTION))
    length = int(tokens.mask[0].sum())
    assert length < tokens.mask.shape[1]  # there is padding
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.no_grad(), autocast:
        before, levels = states(model, features, tokens)
        assert len(before) >= 8
        for place in range(1, tokens.mask.shape[1]):
            after, other_levels = states(model, features, replaced(tokens, place, 2000 + place))
            for name, words in before.items():
                assert torch.equal(words[0, :place], after[name][0, :place]), (name, place)
                # And it is this word that changed; padding is not real.
                changed = not torch.equal(words[0, place], after[name][0, place])
                assert changed or place >= length, (name, place)
            assert all(map(torch.equal, levels, other_levels)), place
    model.eval()


def test_a_question_and_a_list_of_classes_see_all_words(captioner, features):
    """The counter-test: their first word and their image know the last one."""
    for prompt in OTHERS[:2]:
        tokens = batch(captioner, prompt)
        last = int(tokens.mask[0].sum()) - 2
        with torch.no_grad():
            before, levels = states(captioner, features, tokens)
            after, other_levels = states(captioner, features, replaced(tokens, last, 2000))
        for name in before:
            if not name.endswith(("embeddings", "embedding")):  # which see themselves alone
                assert not torch.equal(before[name][0, 0], after[name][0, 0]), name
        assert not torch.equal(levels[0][0], other_levels[0][0])
        assert torch.equal(levels[0][1:], other_levels[0][1:])  # the others of the batch do not


def test_no_gradient_reaches_a_later_word(captioner, features):
    model = captioner.train()
    tokens = batch(model, Prompt.unwritten(CAPTION))
    found, _ = states(model, features, tokens)
    name = next(n for n in found if n.endswith(("embeddings", "embedding")))
    for place in range(int(tokens.mask[0].sum())):
        loss = found["logits"][0, place].square().sum()
        (gradient,) = torch.autograd.grad(loss, found[name], retain_graph=True)
        reached = gradient.abs().amax(dim=2)
        assert not reached[0, place + 1 :].any() and not reached[1:].any(), place
        assert reached[0, : place + 1].all(), place
    model.eval()


@torch.no_grad()
def test_the_image_of_a_caption_is_the_same_whatever_is_written(captioner, features):
    """To the last bit, for captions of other lengths too; and what `read_images` computes alone."""
    expected, _ = captioner.neck(
        features, captioner.language_backbone(batch(captioner, Prompt.unwritten()))
    )
    for text in ("dog", CAPTION, CAPTION + ", " + CAPTION):
        tokens = batch(captioner, Prompt.unwritten(text))
        levels, _ = captioner.neck(features, captioner.language_backbone(tokens))
        for level, of_other in zip(levels, expected):
            assert torch.equal(level[0], of_other[0])
            assert torch.equal(level[3], of_other[3])


@torch.no_grad()
def test_what_is_read_of_the_images_is_what_the_tower_fuses_with(captioner, features):
    seen = []
    handles = [
        block.fusion.attention.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        for block in captioner.neck.blocks
    ]
    tokens = captioner.tokenizer([Prompt.unwritten(CAPTION)] * len(features[0]))
    captioner.neck(features, captioner.language_backbone(tokens))
    for handle in handles:
        handle.remove()
    assert all(map(torch.equal, captioner.neck.read_images(features), seen))


@torch.no_grad()
def test_the_others_of_a_mixed_batch_are_what_they_are_alone(captioner, features):
    mixed = batch(captioner, Prompt.unwritten(CAPTION))
    levels, words = captioner.neck(features, captioner.language_backbone(mixed))
    for row, prompt in enumerate(OTHERS, start=1):
        tokens = captioner.tokenizer([prompt])
        own = [level[row : row + 1] for level in features]
        own_levels, own_words = captioner.neck(own, captioner.language_backbone(tokens))
        length = tokens.mask.shape[1]
        # Another padding and other kernels: some 10 ulp of float32 in values of size 1 to 10,
        # which GroupNorm on maps of a position or two enlarges.
        torch.testing.assert_close(
            [level[row : row + 1] for level in levels], own_levels, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(words[row, :length], own_words[0], atol=1e-4, rtol=1e-4)
