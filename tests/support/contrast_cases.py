"""Small batches for the contrastive loss, and the loss itself as plain loops over strings."""

import re

import torch

from glipv2_d2.language import Prompt
from glipv2_d2.language.positive_map import positive_map
from glipv2_d2.modeling.contrast import ContrastTargets
from glipv2_d2.modeling.text import TextFeatures

CHANNELS, TEXT_CHANNELS = 6, 5
SIZES = ((3, 4), (1, 5))
POSITIONS = 17


def tokenize(prompt):
    """Whole words and single punctuation marks between [CLS] and [SEP]: texts and offsets."""
    found = list(re.finditer(r"\w+|\S", prompt.caption))
    texts = ["[CLS]", *(match.group() for match in found), "[SEP]"]
    return texts, [(0, 0), *(match.span() for match in found), (0, 0)]


def classes(*names, ids=None):
    """A detection prompt."""
    return Prompt.from_classes(names, ids)


def make_targets(*images, hidden=(), positions=POSITIONS):
    """`images`: prompt and the phrase of each box; box b is matched at position 2 b only.

    `hidden`: (image, text) of words that are masked.
    """
    tokens = [tokenize(prompt) for prompt, _ in images]
    length = max(len(texts) for texts, _ in tokens)
    words = torch.zeros(len(images), length, dtype=torch.bool)
    matches = torch.full((len(images), positions), -1)
    maps = []
    for i, ((prompt, boxes), (texts, offsets)) in enumerate(zip(images, tokens)):
        for t, text in enumerate(texts):
            words[i, t] = (i, text) not in hidden
        matches[i, torch.arange(len(boxes)) * 2] = torch.arange(len(boxes))
        maps.append(positive_map(prompt, offsets + [(0, 0)] * (length - len(offsets))))
    gt_phrases = [torch.tensor(boxes, dtype=torch.int64) for _, boxes in images]
    inside = torch.ones_like(matches, dtype=torch.bool)
    prompts = [prompt for prompt, _ in images]
    return ContrastTargets(prompts, maps, gt_phrases, matches, words, inside)


def word_labels(targets):
    """Labels "image:text" of the words that take part; a repeated one has "#2" behind it."""
    labels = []
    for i, prompt in enumerate(targets.prompts):
        seen = []
        for t, text in enumerate(tokenize(prompt)[0]):
            seen.append(text)
            number = seen.count(text)
            if targets.words[i, t]:
                labels.append(f"{i}:{text}" + (f"#{number}" if number > 1 else ""))
    return labels


def features_of(targets, seed=0, dtype=torch.float64, sizes=SIZES):
    """Random levels and text, leaves of the graph."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    batch, length = targets.words.shape
    levels = [normal(batch, CHANNELS, height, width) for height, width in sizes]
    hidden = normal(batch, length, TEXT_CHANNELS)
    return levels, TextFeatures(hidden, hidden, torch.ones_like(targets.words))


def mixed_images():
    """Eight images: detection and sentences, shared names, none, unions of phrases."""
    union = Prompt.from_caption(
        "the man, a referee, holds a dog",
        [[(0, 7)], [(0, 7), (9, 18)], [(26, 31)]],
        names=["man", "the man a referee", "dog"],
    )
    return [
        (Prompt.from_classes(["person", "hot_dog", "Cat"], [7, 0, 3]), [0, 1, 1]),
        (Prompt.parse("a [person] holds a [hot dog]"), [0, 1]),
        (Prompt.from_classes(["cat", "person"], [0, 1]), [1]),
        (Prompt.from_classes(["hot dog", "a referee"]), []),
        (union, [1, 2]),
        (Prompt.from_classes(["kite", "dog", "CAT (animal)"]), [2, 2, 1]),
        (Prompt.parse("[dog]"), [0]),
        (Prompt.from_classes(["dog"], [5]), [0]),
    ]


def _names(prompt, phrase):
    texts = [prompt.caption[start:end] for start, end in prompt.spans[phrase]]
    name = prompt.names[phrase]
    names = [name, *texts] if len(texts) > 1 and " ".join(texts) == name else [name]
    return {re.sub(r"\(.*?\)", "", n).replace("_", " ").strip().lower() for n in names}


def _positive(region, word):
    (image, prompt, phrase), (other_image, other, tokens) = region, word
    if phrase is None:
        return False
    if image == other_image:
        return phrase in tokens
    if other.kind != "detection":
        return False
    return any(_names(prompt, phrase) & _names(other, k) for k in tokens)


def naive_loss(module, parts):
    """Eq. 4-5 over the images of all `parts`, each (levels, text, targets), pair by pair."""
    regions, words, image = [], [], 0
    for levels, text, targets in parts:
        for i, prompt in enumerate(targets.prompts):
            columns = torch.cat([level[i].reshape(CHANNELS, -1) for level in levels], dim=1)
            for n in range(columns.shape[1]):
                if not targets.inside[i, n]:
                    continue
                box = int(targets.matches[i, n])
                phrase = None if box < 0 else int(targets.gt_phrases[i][box])
                projection = module.region_projection(columns[:, n])
                regions.append(((image, prompt, phrase), projection / projection.norm()))
            for t in range(text.hidden.shape[1]):
                if targets.words[i, t]:
                    phrases = targets.positive_maps[i][:, t].nonzero().flatten().tolist()
                    projection = module.word_projection(text.hidden[i, t])
                    words.append(((image, prompt, phrases), projection / projection.norm()))
            image += 1
    temperature = module.log_temperature.exp()
    total = 0
    for anchors, others, flip in ((regions, words, False), (words, regions, True)):
        terms = []
        for label, vector in anchors:
            scores = [(vector @ other).div(temperature).exp() for _, other in others]
            right = [
                score
                for score, (other, _) in zip(scores, others)
                if (_positive(other, label) if flip else _positive(label, other))
            ]
            if right:
                terms.append(-sum((score / sum(scores)).log() for score in right) / len(right))
        total = total + (sum(terms) / len(terms) if terms else 0 * temperature)
    return total
