"""The model and the images that it keeps, for requests that come at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ..engine.asked import PromptLike, Request, to_answer, to_caption, to_detect
from ..engine.encoded_image import EncodedImage, ask_together, encode_together
from ..engine.image_input import image_input
from ..engine.predictor import GroundingPredictor
from ..language.prompt_text import read_prompt
from ..modeling.heads import AnsweringHead, RefiningHead, WritingHead
from . import addresses, records
from .image_store import ImageStore
from .labels import zipped
from .limits import Limits
from .schemas import AskedAnswer, AskedCaption, AskedDetections, AskedLabels
from .uploads import read_upload
from .worker import Worker

__all__ = ["Service"]

# What needs no model: reading images, json of masks. Few, since a photo takes much memory.
THREADS = 2


class Service:
    """Encodes images, keeps them, and asks the model about them.

    Args:
        predictor: not used elsewhere meanwhile; its `batch_size` is that of the batches.
        limits: of the cache, of images, of addresses.
    """

    def __init__(self, predictor: GroundingPredictor, limits: Limits):
        self._predictor = predictor
        self._limits = limits
        self._worker = Worker(predictor.batch_size)
        self._threads = ThreadPoolExecutor(THREADS, "serve")
        self.images = ImageStore(limits.cache, limits.keep)

    @property
    def tasks(self) -> list[str]:
        """What the model can do."""
        roles = {"masks": RefiningHead, "answer": AnsweringHead, "caption": WritingHead}
        model = self._predictor.glip
        return ["detect", *(name for name, role in roles.items() if model.heads_of(role))]

    @property
    def waiting(self) -> int:
        """Images and questions that wait for the model."""
        return self._worker.waiting

    @property
    def threshold(self) -> float:
        """The least score of a detection that is asked for without one."""
        return self._predictor.score_threshold

    async def fetch(self, url: str) -> bytes:
        """The bytes of an image at a public address, see `addresses.fetch`."""
        return await asyncio.to_thread(addresses.fetch, url, self._limits)

    async def add(self, data: bytes) -> tuple[str, EncodedImage]:
        """Encode an image and keep it; returns its id, too."""
        inputs = await self._in_thread(self._read, data)
        image = await self._worker.do(self._encode, inputs)
        return self.images.add(image), image

    async def detect(self, image: EncodedImage, asked: AskedDetections) -> dict[str, Any]:
        """What is found; see `records.detections`."""
        make = partial(_to_detect, self._predictor, asked)
        return await self._ask(image, make, records.detections)

    async def answer(self, image: EncodedImage, asked: AskedAnswer) -> dict[str, Any]:
        """The answer to a question; see `records.answer`."""
        make = partial(to_answer, self._predictor, asked.question, 1, asked.threshold, asked.masks)
        return await self._ask(image, make, records.answer)

    async def caption(self, image: EncodedImage, asked: AskedCaption) -> dict[str, Any]:
        """A caption; see `records.caption`."""
        make = partial(
            to_caption, self._predictor, asked.beginning, 1, None, asked.threshold, asked.masks
        )
        return await self._ask(image, make, records.caption)

    async def labels(self, asked: AskedLabels) -> bytes:
        """Detections as files of labels; see `labels.zipped`."""
        return await self._in_thread(zipped, asked)

    async def stop(self) -> None:
        """End the threads; what waits for the model is refused."""
        await asyncio.to_thread(self._worker.stop)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(
        self,
        image: EncodedImage,
        make: Callable[[], Request],
        record: Callable[[dict, dict], dict[str, Any]],
    ) -> dict[str, Any]:
        # In the model's thread, as the tokenizer; the json is made elsewhere.
        finish = await self._worker.do(_ask_together, (image, make, record))
        return await self._in_thread(finish)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _read(self, data: bytes) -> dict[str, Any]:
        return image_input(self._predictor, read_upload(data, self._limits), "image")

    def _encode(self, inputs: list[dict[str, Any]]) -> list[EncodedImage]:
        return encode_together(self._predictor, inputs)


def _to_detect(predictor: GroundingPredictor, asked: AskedDetections) -> Request:
    prompt: PromptLike = asked.prompt
    if isinstance(prompt, str):
        prompt = read_prompt(prompt, asked.kind, predictor.phrases)
    return to_detect(predictor, prompt, 1, asked.threshold, asked.merge_iou, asked.masks)


def _ask_together(items: list[tuple]) -> list[Callable[[], dict[str, Any]]]:
    """Of each item a function that makes its json of the model's output."""
    asked = []
    for image, make, record in items:
        asked.append((image, make()._replace(read=partial(partial, record))))
    return ask_together(asked)
