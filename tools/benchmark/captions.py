"""The part that times captions: with what is kept from word to word, and without."""

import torch
from torch import nn

from glipv2_d2.language import Prompt
from glipv2_d2.language.tokenized import TokenizedPrompts
from glipv2_d2.modeling.generation import Decoding, search, write_captions
from glipv2_d2.modeling.heads import CaptionHead

from .settings import Settings
from .sides import Bench
from .timing import Clock, interleave
from .workload import make_inputs

BEAMS = (1, 5)
TOKENS = 20


class Recomputed:
    """`NextWords` that reads image and text anew for every token."""

    def __init__(self, model: nn.Module, features: list[torch.Tensor]):
        self.model, self.features = model, features
        self.ids: torch.Tensor | None = None

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        rows = ids.flatten(0, 1)
        self.ids = rows if self.ids is None else torch.cat((self.ids, rows), dim=1)
        features = [level.repeat_interleave(ids.shape[1], dim=0) for level in self.features]
        mask = torch.ones_like(self.ids, dtype=torch.bool)
        causal, seen = mask[:, 0], ~mask[:, 0]
        tokens = TokenizedPrompts(self.ids, mask, [], causal=causal, seen_by_image=seen)
        backbone = self.model.language_backbone
        _, words = self.model.neck(features, backbone(tokens))
        logits = self.model.caption_head.logits(words[:, -1], backbone.word_embedding)
        return logits.unflatten(0, ids.shape[:2])

    def select(self, texts: torch.Tensor) -> None:
        self.ids = self.ids[texts]


def measure_captions(bench: Bench, settings: Settings, batch: int) -> list[dict]:
    """A row per beam size: seconds per caption of 20 tokens, cached and recomputed.

    The pyramid is computed before; a model without caption head gets a random one.
    """
    model, tokenizer = bench.model, bench.model.tokenizer
    if getattr(model, "caption_head", None) is None:
        vocabulary, channels = model.language_backbone.word_embedding.shape
        model.caption_head = CaptionHead(text_channels=channels, vocabulary_size=vocabulary)
        model.caption_head.to(model.device)
    prompts = [Prompt.unwritten()] * batch
    inputs = make_inputs(settings, prompts[0], batch)
    clock = Clock(settings.device)
    start, end = tokenizer.encode("").ids
    ids = torch.full((batch, 1), start, device=model.device)
    rows = []
    with torch.no_grad():
        features = model.encode(inputs).features
        for beam in BEAMS:
            # Of random weights, which end a caption at any time, as of trained ones.
            decoding = Decoding(beam_size=beam, min_length=TOKENS, max_length=TOKENS)

            def cached(decoding=decoding):
                return write_captions(model, features, prompts, decoding)

            def recomputed(decoding=decoding):
                writable = tokenizer.writable.to(model.device)
                found = search(Recomputed(model, features), ids, end, writable, decoding)
                return [tokenizer.decode(tokens) for tokens, _ in found]

            same = [written.caption for written in cached()] == recomputed()
            sides = {
                "pyramid": lambda: model.encode(inputs),
                "image side": lambda: model.neck.read_images(features),
                "cached": cached,
                "recomputed": recomputed,
            }
            timings = interleave(sides, settings.repeats, clock)
            seconds = {name: timing.median / batch for name, timing in timings.items()}
            rows.append(
                {
                    "beam": beam,
                    "batch": batch,
                    "seconds": seconds,
                    # The end token takes a step, too.
                    "per_token": (seconds["cached"] - seconds["image side"]) / (TOKENS + 1),
                    "recomputed_per_token": seconds["recomputed"] / (TOKENS + 1),
                    "times_recomputed": seconds["recomputed"] / seconds["cached"],
                    "same": "yes" if same else "no",
                    "runs": {name: timing.runs for name, timing in timings.items()},
                }
            )
    return rows
