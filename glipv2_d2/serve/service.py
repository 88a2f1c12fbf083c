"""The model and the images that it keeps, for requests that come at once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from ..engine.asked import PromptLike, Request, to_answer, to_caption, to_detect
from ..engine.encoded_image import EncodedImage, ask_together, encode_together
from ..engine.image_input import image_input
from ..engine.predictor import GroundingPredictor
from ..engine.region_search import RegionSearch, ranked
from ..errors import UsageError
from ..language.prompt_text import read_prompt
from ..modeling.heads import AnsweringHead, RefiningHead, WritingHead
from ..search.sheet import picture_of
from ..search.store import Match
from . import addresses, records
from .image_store import ImageStore
from .labels import zipped
from .limits import Limits
from .schemas import (
    AskedAnswer,
    AskedCaption,
    AskedDetections,
    AskedExample,
    AskedLabels,
    AskedPicture,
    AskedSearch,
)
from .uploads import read_upload
from .worker import Worker

__all__ = ["Service", "UnknownRegion"]

# What needs no model: reading images, json of masks. Few, since a photo takes much memory.
THREADS = 2


class UnknownRegion(LookupError):
    """A number without a region."""


class Service:
    """Encodes images, keeps them, and asks the model about them.

    Args:
        predictor: not used elsewhere meanwhile; its `batch_size` is that of the batches.
        limits: of the cache, of images, of addresses.
        search: an index that was made with the model; None: there is none.
    """

    def __init__(
        self, predictor: GroundingPredictor, limits: Limits, search: RegionSearch | None = None
    ):
        self._predictor = predictor
        self._limits = limits
        self._search = search
        self._worker = Worker(predictor.batch_size)
        self._threads = ThreadPoolExecutor(THREADS, "serve")
        self.images = ImageStore(limits.cache, limits.keep)

    @property
    def tasks(self) -> list[str]:
        """What the model can do."""
        roles = {"masks": RefiningHead, "answer": AnsweringHead, "caption": WritingHead}
        model = self._predictor.glip
        tasks = ["detect", *(name for name, role in roles.items() if model.heads_of(role))]
        return tasks if self._search is None else [*tasks, "search"]

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
        make = partial(_to_caption, self._predictor, asked)
        return await self._ask(image, make, records.caption)

    async def labels(self, asked: AskedLabels) -> bytes:
        """Detections as files of labels; see `labels.zipped`."""
        return await self._in_thread(zipped, asked)

    async def search(self, asked: AskedSearch) -> dict[str, Any]:
        """The regions of the index that fit a text; see `RegionSearch.text`.

        The images that the model looks at again wait in the queue one by one, so that nobody waits
        for all of them.
        """
        search = self._searched()
        count = search.images_to_rerank(asked.text, asked.top, asked.rerank)
        if count:
            images = await self._worker.do(_nearest_images, (search, asked.text, count))
            looks = (self._worker.do(_look, (search, match, asked.text)) for match in images)
            matches = ranked(await asyncio.gather(*looks), asked.top)
        else:
            matches = await self._worker.do(_nearest, (search, asked.text, asked.top))
        return {"regions": [match._asdict() for match in matches]}

    async def example(self, image: EncodedImage, asked: AskedExample) -> dict[str, Any]:
        """The regions of the index that are like a box of an image; see `RegionSearch.example`."""
        item = self._searched(), image, asked.box, asked.top
        matches = await self._worker.do(_like, item)
        return {"regions": [match._asdict() for match in matches]}

    async def picture(self, asked: AskedPicture) -> bytes:
        """A JPEG of a region; see `picture_of`.

        Raises:
            UnknownRegion: there is none of this number.
        """
        match = await self._worker.do(_match, (self._searched(), asked.region))
        if match is None:
            raise UnknownRegion
        return await self._in_thread(_jpeg, match, asked.box)

    def _searched(self) -> RegionSearch:
        if self._search is None:
            raise UsageError("this server was started without --index")
        return self._search

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


def _nearest(items: list[tuple[RegionSearch, str, int]]) -> list[list[Match]]:
    return [search.nearest(text, top) for search, text, top in items]


def _nearest_images(items: list[tuple[RegionSearch, str, int]]) -> list[list[Match]]:
    return [search.images(text, count) for search, text, count in items]


def _look(items: list[tuple[RegionSearch, Match, str]]) -> list[Match | None]:
    return [search.look(match, text) for search, match, text in items]


def _like(items: list[tuple[RegionSearch, EncodedImage, list[float], int]]) -> list[list[Match]]:
    return [search.example(image, box, top) for search, image, box, top in items]


def _match(items: list[tuple[RegionSearch, int]]) -> list[Match | None]:
    return [search.store.match(region) for search, region in items]


def _jpeg(match: Match, box: list[float] | None) -> bytes:
    file = io.BytesIO()
    picture_of(match, box).save(file, "JPEG", quality=90)
    return file.getvalue()


def _to_detect(predictor: GroundingPredictor, asked: AskedDetections) -> Request:
    prompt: PromptLike = asked.prompt
    if isinstance(prompt, str):
        prompt = read_prompt(prompt, asked.kind, predictor.phrases)
    wishes = (asked.threshold, asked.merge_iou, asked.masks)
    return to_detect(predictor, prompt, 1, *wishes, asked.negatives)


def _to_caption(predictor: GroundingPredictor, asked: AskedCaption) -> Request:
    decoding = None
    if asked.beam_size is not None and (heads := predictor.glip.heads_of(WritingHead)):
        decoding = replace(heads[0].decoding, beam_size=asked.beam_size)
    return to_caption(predictor, asked.beginning, 1, decoding, asked.threshold, asked.masks)


def _ask_together(items: list[tuple]) -> list[Callable[[], dict[str, Any]]]:
    """Of each item a function that makes its json of the model's output."""
    asked = []
    for image, make, record in items:
        asked.append((image, make()._replace(read=partial(partial, record))))
    return ask_together(asked)
