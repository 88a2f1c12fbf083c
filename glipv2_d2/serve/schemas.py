"""What is asked and answered, as OpenAPI shows it."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class AskedImage(BaseModel):
    """An image: one that is kept, or, with --allow-urls, one at an address."""

    model_config = ConfigDict(extra="forbid")

    image_id: str | None = Field(None, description="of an image that is kept", max_length=100)
    url: str | None = Field(None, description="of an image, http or https", max_length=2000)


class _Asked(AskedImage):
    threshold: float | None = Field(None, ge=0, le=1, description="least score of a box")
    masks: bool = Field(True, description="false leaves out the masks")


class AskedDetections(_Asked):
    """What to look for in an image."""

    prompt: str | list[str] = Field(description='"cat, dog", "a [kite] above a [dog]", or names')
    kind: Literal["auto", "classes", "caption"] = Field("auto", description="of a text")
    negatives: str | list[str] = Field("", description="what is not sought, but taken for it")
    merge_iou: float | None = Field(None, gt=0, le=1, description="as `glip detect --merge-iou`")


class AskedAnswer(_Asked):
    """A question about an image."""

    question: str


class AskedCaption(_Asked):
    """A caption of an image."""

    beginning: str = Field("", description="the caption goes on from it")
    beam_size: int | None = Field(None, ge=1, le=20, description="1: greedy; none: the model's")


class Mask(BaseModel):
    """COCO's compressed run-length code."""

    size: list[int] = Field(description="height, width")
    counts: str


class Detection(BaseModel):
    """A box, as in `detections.json` of `glip detect`."""

    phrase: str
    class_id: int
    score: float
    box: list[float] = Field(description="x1, y1, x2, y2 in pixels of the image")
    mask: Mask | None = None


class AskedDetection(Detection):
    """A detection as it was answered."""

    model_config = ConfigDict(extra="forbid")

    phrase: str = Field(max_length=1000)
    score: float = Field(ge=0, le=1)
    box: list[float] = Field(min_length=4, max_length=4)


class AskedLabels(BaseModel):
    """Detections as files of labels."""

    model_config = ConfigDict(extra="forbid")

    format: str = Field(description="one of `formats` of the model")
    file: str = Field(description="name of the image, for the labels", min_length=1)
    height: int = Field(ge=1, le=100_000)
    width: int = Field(ge=1, le=100_000)
    detections: list[AskedDetection] = Field(max_length=1000)

    @field_validator("file")
    @classmethod
    def is_a_name(cls, file: str) -> str:
        if file in (".", "..") or re.search(r"[\x00-\x1f/\\]", file) or len(file.encode()) > 200:
            raise ValueError("it is no name of a file, or has more than 200 bytes")
        return file


class Word(BaseModel):
    """A part of a text; one that has a box has its class."""

    text: str
    class_id: int | None = None


class KnownImage(BaseModel):
    """An image that is kept, to be asked about."""

    image_id: str
    width: int
    height: int


class FoundDetections(KnownImage):
    detections: list[Detection] = Field(description="best first")


class FoundAnswer(KnownImage):
    answer: str
    answers: list[tuple[str, float]] = Field(description="the best five with probabilities")
    words: list[Word] = Field(description="the question")
    detections: list[Detection] = Field(description="of its phrases, the best box each")


class FoundCaption(KnownImage):
    caption: str
    caption_score: float = Field(description="mean log-probability of its tokens")
    words: list[Word] = Field(description="the caption")
    detections: list[Detection] = Field(description="of its phrases, the best box each")


class AskedSearch(BaseModel):
    """What to look for in the index."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(description='"a red star", "a red star next to a ring"')
    top: int = Field(10, ge=1, le=100, description="most results")
    rerank: int | None = Field(None, ge=0, le=100, description="as `glip search --rerank`")


class AskedExample(AskedImage):
    """A box of an image, to look for more of its like in the index."""

    box: list[float] = Field(
        description="x1, y1, x2, y2 in pixels of the image; in a form 40,60,90,120",
        min_length=4,
        max_length=4,
    )
    top: int = Field(10, ge=1, le=100, description="most results")

    @field_validator("box", mode="before")
    @classmethod
    def _of_a_form(cls, box: Any) -> Any:
        return box.split(",") if isinstance(box, str) else box


class FoundRegion(BaseModel):
    """A region of an image of the index."""

    region: int = Field(description="its number, for the picture")
    file: str
    height: int
    width: int
    box: list[float] = Field(description="x1, y1, x2, y2 in pixels of the image")
    score: float
    detection_score: float | None = Field(description="of the box when it was detected")


class FoundRegions(BaseModel):
    regions: list[FoundRegion] = Field(description="best first")


class FoundLike(KnownImage, FoundRegions):
    pass


class AskedPicture(BaseModel):
    """A region as it was answered."""

    model_config = ConfigDict(extra="forbid")

    region: int = Field(ge=0, lt=1 << 63)
    box: list[float] | None = Field(None, min_length=4, max_length=4, description="if another")


class Example(BaseModel):
    """An image that suits the model."""

    address: str
    prompt: str


class Model(BaseModel):
    """The model that is served, and what the server allows."""

    model: str
    version: str
    tasks: list[str]
    threshold: float
    urls: bool
    limits: dict[str, int | float]
    formats: list[str] = Field(description="of labels")
    examples: list[Example]


class Health(BaseModel):
    status: Literal["ok"]
    waiting: int
    images: int


class Refusal(BaseModel):
    """What went wrong, in one line for people."""

    error: str
