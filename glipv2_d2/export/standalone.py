"""Run what `glip export` has written, without glipv2_d2 and Detectron2; a copy is in every export.

    python glip_runtime.py photo.jpg "red star, blue ring"

It needs NumPy, Pillow, what runs the graphs (torch and torchvision, onnxruntime, or openvino), and
for text `tokenizers`, or `safetensors` where the export is for fixed prompts. In a program:

    model = ExportedModel("output/exported")
    for found in model.detect("photo.jpg", ["red star", "blue ring"]):
        print(found.phrase, found.score, found.box, found.mask)
    print(model.answer("photo.jpg", "what color is the star?"))
    print(model.caption("photo.jpg"))
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

__all__ = ["ExportedModel", "Found", "open_graph"]

Graph = Callable[..., list[np.ndarray]]
SEPARATOR, MASK = ". ", "[MASK]"


class Found(NamedTuple):
    """A detection: a box (x0, y0, x1, y1) in pixels of the image and, of a model that gives masks,
    a (height, width) array of bool."""

    phrase: str
    score: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None


class Text(NamedTuple):
    """A prompt: names of K phrases, their tokens (K, T) bool, the padding mask and words (1, T, L),
    or the ids of T tokens."""

    names: list[str]
    tokens: np.ndarray
    mask: np.ndarray
    words: np.ndarray


def open_graph(path: Path, cuda: bool = False) -> Graph:
    """A graph as a function from arrays to arrays; `cuda`: of ONNX, on the GPU.

    One of OpenVINO takes `precision`, too: "fp32", or "bf16", which is compiled when first used.
    """
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        providers = ["CUDAExecutionProvider"] * cuda + ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        names = [place.name for place in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays)))
    if path.suffix == ".xml":
        import openvino

        core = openvino.Core()
        model = core.read_model(path)

        @cache
        def compiled(precision: str) -> Any:
            # Without the hint bfloat16 is taken where the processor has it.
            hint = {"fp32": "f32", "bf16": "bf16"}[precision]
            return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})

        def infer(*arrays: np.ndarray, precision: str = "fp32") -> list[np.ndarray]:
            request = compiled(precision).create_infer_request()
            return list(request.infer(list(arrays)).values())

        return infer
    import torch
    import torchvision  # noqa: F401  (the deformable convolution and RoIAlign)

    module = torch.export.load(path).module()

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(np.ascontiguousarray(x)) for x in arrays))
        return [x.numpy() for x in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


class ExportedModel:
    """An export.

    Args:
        folder: with `export.json`.
        precision: "fp32", or of an OpenVINO export "bf16": faster where the processor has bfloat16,
            and logits change by 0.1 or 0.2.

    Raises:
        ValueError: another precision, or this one for another format.

    Attributes:
        about: `export.json`, which says what each setting is (docs/export.md).
    """

    def __init__(self, folder: str | Path = Path(__file__).parent, precision: str = "fp32"):
        self.folder = Path(folder)
        self.about: dict[str, Any] = json.loads((self.folder / "export.json").read_text("utf-8"))
        kinds = ("fp32", "bf16") if self.about["format"] == "openvino" else ("fp32",)
        if precision not in kinds:
            raise ValueError(f"an export of the format {self.about['format']} runs in "
                             f"{' or '.join(kinds)}, not in {precision!r}")  # fmt: skip
        self._options = {} if precision == "fp32" else {"precision": precision}
        self._graphs: dict[str, Graph] = {}
        self._vocabularies: dict[tuple[str, ...], np.ndarray] = {}

    def detect(
        self,
        image: str | Path | Image.Image,
        names: Sequence[str] | None = None,
        score_threshold: float | None = None,
        shortlist: int | None = None,
    ) -> list[Found]:
        """What is found of these names, best first; without any: of all fixed prompts.

        `shortlist`: ask for the so many of them alone that the image is most like before fusion.
        """
        limits = self.about["inference"]
        photo, pixels, size = self._read(image)
        prompts = self._prompts(names)
        shortlist = limits.get("shortlist") if shortlist is None else shortlist
        if shortlist is not None and names:
            pinned = self._pinned(names, shortlist)
            if len(names) > shortlist:
                prompts = self._shortlisted(pixels, size, names, shortlist, pinned)
        if score_threshold is None:
            score_threshold = limits.get("score_threshold", 0.0)
        parts = [self._found(pixels, size, text, score_threshold) for text in prompts]
        boxes, scores = (np.concatenate([part[field] for part in parts]) for field in range(2))
        labels, masks = ([x for part in parts for x in part[field]] for field in (2, 3))
        order = np.argsort(-scores, kind="stable")[: self.about["detections_per_image"]]
        boxes = boxes[order] * np.array([photo.width / size[0], photo.height / size[1]] * 2)
        kept = np.arange(len(order))
        if limits.get("merge_iou") is not None:
            kept = _nms(boxes, limits["merge_iou"])
        return [
            Found(
                labels[order[i]],
                float(scores[order[i]]),
                tuple(boxes[i].tolist()),
                _pasted(masks[order[i]], boxes[i], photo.size),
            )
            for i in kept
        ]

    def answer(self, image: str | Path | Image.Image, question: str) -> list[tuple[str, float]]:
        """The best five answers, each with its probability. [Brackets] mark phrases, whose boxes
        are not given here."""
        question = re.sub(r"[][]", "", question.strip().removesuffix(MASK)).strip()
        if not question:
            raise ValueError("the question is empty")
        text = self._text(question + f" {MASK}" * self.about["ground_answer"], [], [])
        fused = self._run("image", self._read(image)[1], text.words, text.mask, *self._causal())[3]
        scores = _sigmoid(self._run("answer", fused, text.mask)[0][0])
        return [(self.about["answers"][i], float(scores[i])) for i in np.argsort(-scores)[:5]]

    def caption(self, image: str | Path | Image.Image) -> str:
        """A caption, by greedy search."""
        tokenizer, decoding = self._tokenizer, self.about["decoding"]
        start, end = tokenizer.encode("").ids
        special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
        unused = [i for t, i in tokenizer.get_vocab().items() if re.fullmatch(r"\[unused\d+\]", t)]
        banned = list({*special, *unused, self.about["mask_token_id"]} - {end, None})
        read = self._run("reading", self._read(image)[1])[0]
        ids = [start]
        while len(ids) <= decoding["max_length"]:
            logits = self._run("caption", read, np.array([[ids]]))[0][0, 0].copy()
            logits[banned + [end] * (len(ids) <= decoding["min_length"])] = -np.inf
            if logits.argmax() == end:
                break
            ids.append(int(logits.argmax()))
        return tokenizer.decode(ids)

    def _run(self, name: str, *arrays: np.ndarray) -> list[np.ndarray]:
        if name not in self._graphs:
            suffix = {"torch": ".pt2", "onnx": ".onnx", "openvino": ".xml"}[self.about["format"]]
            path = self.folder / (name + suffix)
            if not path.is_file():
                raise ValueError(f"this export has no {path.name}: its model cannot do that")
            self._graphs[name] = open_graph(path)
        return self._graphs[name](*arrays, **self._options)

    def _read(
        self, image: str | Path | Image.Image
    ) -> tuple[Image.Image, np.ndarray, tuple[int, int]]:
        """The photo, the input of the graph (1, 3, H, W), and its width and height."""
        about, limits = self.about, self.about["inference"]
        photo = image if isinstance(image, Image.Image) else Image.open(image)
        photo = ImageOps.exif_transpose(photo)
        if photo.mode[0] in "IF":  # of which `convert` would keep the lowest 8
            raise ValueError(
                f"the photo is of mode {photo.mode}, and has more than 8 bits: scale it"
            )
        if photo.mode in ("LA", "PA", "RGBA") or "transparency" in photo.info:
            white = Image.new("RGBA", photo.size, "white")
            photo = Image.alpha_composite(white, photo.convert("RGBA"))
        photo = photo.convert("RGB")
        least, most = limits.get("min_size", 800), limits.get("max_size", 1333)
        scale = least / min(photo.size)
        scale *= min(1, most / (scale * max(photo.size)))
        width, height = (int(side * scale + 0.5) for side in photo.size)
        resized = photo.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, dtype=np.float32)
        pixels = pixels[..., ::-1] if about["input_format"] == "BGR" else pixels
        mean, std = (np.float32(about[name]) for name in ("pixel_mean", "pixel_std"))
        pixels = ((pixels - mean) / std).transpose(2, 0, 1)[None]
        step = about["size_divisibility"]
        padding = ((0, 0), (0, 0), (0, -height % step), (0, -width % step))
        return photo, np.pad(pixels, padding), (width, height)

    @cached_property
    def _tokenizer(self) -> Any:
        if self.about["prompts"]:
            raise ValueError("this export is for fixed prompts and reads no other text")
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer" / "tokenizer.json"))
        tokenizer.encode_special_tokens = True  # a "[SEP]" that somebody writes ends nothing
        return tokenizer

    def _ids(self, text: str) -> list[int]:
        """The tokens of a text; one for the answer, which a question may leave open."""
        ids = self._tokenizer.encode(text.removesuffix(MASK)).ids
        return [*ids[:-1], self.about["mask_token_id"], ids[-1]] if text.endswith(MASK) else ids

    def _is_long(self, ids: list[int]) -> bool:
        return len(ids) > self.about["max_tokens"]

    def _causal(self) -> list[np.ndarray]:
        """The last input of the image and text graphs of a model that writes captions."""
        return [np.zeros(1, dtype=bool)] if self.about["causal"] else []

    def _prompts(self, names: Sequence[str] | None) -> Iterator[Text]:
        """In chunks that fit."""
        known = [(p["caption"], p["names"], p["spans"]) for p in self.about["prompts"]]
        if known:
            asked = {_clean(name).casefold() for name in names} if names else None
            all_names = [name for _, own, _ in known for name in own]
            unknown = (asked or set()) - {name.casefold() for name in all_names}
            if unknown:
                raise ValueError(f"{unknown.pop()!r} is none of {', '.join(all_names)}")
            for caption, own, _ in known:
                text = self._text(caption, own, [])
                rows = [k for k, n in enumerate(own) if asked is None or n.casefold() in asked]
                if rows:
                    yield Text([own[k] for k in rows], text.tokens[rows], text.mask, text.words)
            return
        if not names:
            raise ValueError("no names are given, and the export has no fixed prompts")
        for chunk in self._chunks([_clean(name) for name in names], self.about["chunk_size"]):
            ends = np.cumsum([len(name) + len(SEPARATOR) for name in chunk]) - len(SEPARATOR)
            spans = [(end - len(name), end) for name, end in zip(chunk, ends)]
            yield self._text(SEPARATOR.join(chunk), chunk, spans)

    def _chunks(self, names: list[str], most: int | None) -> Iterator[list[str]]:
        while names:
            count = min(len(names), most or len(names))
            while count > 1 and self._is_long(self._ids(SEPARATOR.join(names[:count]))):
                count -= 1
            yield names[:count]
            names = names[count:]

    def _pinned(self, names: Sequence[str], most: int) -> list[int]:
        """Which names are on every shortlist."""
        if self.about["prompts"] or not self.about.get("ranks"):
            raise ValueError("this export makes no shortlist: its prompts are fixed, or its model "
                             "has no contrast of regions and words")  # fmt: skip
        if most < 1:
            raise ValueError(f"shortlist must be a whole number of names from 1, got {most}")
        asked = [_clean(name).casefold() for name in names]
        pinned = {_clean(n).casefold() for n in self.about["inference"].get("pinned") or ()}
        if unknown := pinned.difference(asked):
            raise ValueError(f"{unknown.pop()!r} is pinned to the shortlist, and is not asked for")
        return [i for i, name in enumerate(asked) if name in pinned]

    def _shortlisted(
        self,
        pixels: np.ndarray,
        size: tuple[int, int],
        names: Sequence[str],
        most: int,
        pinned: list[int],
    ) -> Iterator[Text]:
        """The prompts of the names whose words are most like a position of the image."""
        if tuple(names) not in self._vocabularies:
            texts = list(self._prompts(names))
            means = [t.tokens.astype(np.float32) @ self._run("names", t.words)[0][0] for t in texts]
            self._vocabularies = {tuple(names): np.concatenate(means)}
        words = self._vocabularies[tuple(names)]
        words = words / np.linalg.norm(words, axis=1, keepdims=True)
        inside = []
        for stride in self.about["strides"]:
            x, y = (np.arange(-(-n // stride)) * stride for n in pixels.shape[:1:-1])
            inside.append(((y < size[1])[:, None] & (x < size[0])).ravel())
        regions = self._run("regions", pixels)[0][0][np.concatenate(inside)]
        best = np.argsort(-(words @ regions.T).max(axis=1), kind="stable")[:most]
        rest = [i for i in best if i not in pinned][: max(0, most - len(pinned))]
        chosen = [_clean(names[i]) for i in sorted(pinned + rest)]
        # In prompts of one length: names score higher in a short one.
        fewest = len(list(self._chunks(chosen, self.about["chunk_size"])))
        for chunk in self._chunks(chosen, -(-len(chosen) // fewest)):
            yield from self._prompts(chunk)

    def _text(self, caption: str, names: list[str], spans: list[tuple[int, int]]) -> Text:
        """A prompt with the words that the language model makes of it, or that are stored."""
        fixed = [prompt["caption"] for prompt in self.about["prompts"]]
        if caption in fixed:
            from safetensors.numpy import load_file

            stored, i = load_file(self.folder / "prompts.safetensors"), fixed.index(caption)
            words = stored[f"{i}.words"][None]
            return Text(names, stored[f"{i}.positive_map"], np.ones(words.shape[:2], bool), words)
        if self._is_long(found := self._ids(caption)):
            raise ValueError(f"the text {caption[:80]!r} is too long")
        offsets = self._tokenizer.encode(caption).offsets
        tokens = np.array([[a < end and start < b for a, b in offsets] for start, end in spans])
        ids = np.array([found])
        mask = np.ones(ids.shape, dtype=bool)
        return Text(names, tokens, mask, self._run("text", ids, mask, *self._causal())[0])

    def _found(
        self, pixels: np.ndarray, size: tuple[int, int], text: Text, score_threshold: float
    ) -> tuple[Any, Any, Any, Any]:
        """Boxes, scores, names and masks of one prompt, in pixels of the graph's input."""
        about = self.about
        outputs = self._run("image", pixels, text.words, text.mask, *self._causal())
        logits, deltas, centerness = (x[0] for x in outputs[:3])
        weights = text.tokens / text.tokens.sum(1, keepdims=True)
        of_name = _sigmoid(logits) @ weights.T.astype(np.float32)  # (N, K)
        ranking = of_name * _sigmoid(centerness)[:, None]
        anchors, levels = self._anchors(pixels.shape[2:])
        candidates = []
        for start, end in levels:
            position, name = (of_name[start:end] > about["score_threshold"]).nonzero()
            best = np.argsort(-ranking[position + start, name], kind="stable")
            best = best[: about["topk_candidates"]]
            candidates.append(np.stack((position[best] + start, name[best])))
        position, name = np.concatenate(candidates, axis=1)
        boxes = _decoded(deltas[position], anchors[position], about)
        width, height = size
        limit = np.array([width, height], dtype=np.float32)
        boxes = np.concatenate((boxes[:, :2].clip(0, limit - 1), boxes[:, 2:].clip(1, limit)), 1)
        scores = np.sqrt(ranking[position, name])
        order = np.argsort(-scores, kind="stable")
        boxes, scores, name = boxes[order], scores[order], name[order]
        kept = [np.flatnonzero(name == k) for k in range(len(text.names))]
        kept = [rows[_nms(boxes[rows], about["nms_threshold"])] for rows in kept]
        rows = np.sort(np.concatenate(kept))[: about["detections_per_prompt"]]
        rows = rows[scores[rows] >= score_threshold]
        boxes, scores, name = boxes[rows], scores[rows], name[rows]
        masks: Any = [None] * len(rows)
        if about.get("mask_size") and len(rows):
            zeros = np.zeros(len(rows), dtype=np.int64)
            fused = outputs[3], boxes.astype(np.float32), zeros, text.tokens[name], *outputs[4:]
            masks = _sigmoid(self._run("mask", *fused)[0])
        return boxes, scores, [text.names[k] for k in name], masks

    def _anchors(self, size: tuple[int, ...]) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """(N, 4), and which of them belong to each level."""
        anchors: list[np.ndarray] = []
        ends = [0]
        for stride, cell in zip(self.about["strides"], self.about["cell_anchors"]):
            sides = [np.arange(-(-n // stride)) + self.about["anchor_offset"] for n in size]
            y, x = np.meshgrid(*(side * stride for side in sides), indexing="ij")
            anchors.append(np.stack((x, y, x, y), axis=-1).reshape(-1, 4) + cell)
            ends.append(ends[-1] + len(anchors[-1]))
        return np.concatenate(anchors).astype(np.float32), list(zip(ends, ends[1:]))


def _clean(name: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\([^()]*\)", " ", name).replace("_", " ")).strip()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.clip(-80, 80)))


def _decoded(deltas: np.ndarray, anchors: np.ndarray, about: dict) -> np.ndarray:
    low, high = anchors[:, :2], anchors[:, 2:]
    deltas = deltas / np.float32(about["box_weights"])
    center = (low + high) / 2 + deltas[:, :2] * (high - low)
    half = (high - low) / 2 * np.exp(deltas[:, 2:].clip(max=about["scale_clamp"]))
    return np.concatenate((center - half, center + half), axis=1)


def _nms(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """The rows that stay of boxes in the order of their scores."""
    boxes = boxes.astype(np.float64)
    area, left, kept = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), np.arange(len(boxes)), []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        low = np.maximum(boxes[first, :2], boxes[left, :2])
        common = np.prod((np.minimum(boxes[first, 2:], boxes[left, 2:]) - low).clip(0), axis=1)
        left = left[common / (area[first] + area[left] - common) <= threshold]
    return np.array(kept, dtype=np.int64)


def _pasted(mask: np.ndarray | None, box: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """A square mask, stretched over its box, in an image of this width and height."""
    if mask is None:
        return None
    rows, columns = (
        (np.arange(length) + 0.5 - start) / (end - start) * len(mask) - 0.5
        for length, start, end in zip(size[::-1], box[[1, 0]], box[[3, 2]])
    )
    # Linear interpolation; what lies outside of the box is 0.
    y, x = (np.maximum(0, 1 - abs(p[:, None] - np.arange(len(mask)))) for p in (rows, columns))
    return y @ mask @ x.T >= 0.5


def main(arguments: Sequence[str]) -> int:
    """Print what is found, a line each."""
    if not arguments:
        print(__doc__)
        return 2
    names = [name.strip() for name in ",".join(arguments[1:]).split(",") if name.strip()]
    for found in ExportedModel().detect(arguments[0], names or None):
        print(f"{found.phrase}: {found.score:.2f} at {[round(x) for x in found.box]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
