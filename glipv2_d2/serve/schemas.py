"""What is asked and answered, as OpenAPI shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
    merge_iou: float | None = Field(None, gt=0, le=1, description="as `glip detect --merge-iou`")


class AskedAnswer(_Asked):
    """A question about an image."""

    question: str


class AskedCaption(_Asked):
    """A caption of an image."""

    beginning: str = Field("", description="the caption goes on from it")


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


class Word(BaseModel):
    """A part of a text; one that has a box has its class."""

    text: str
    class_id: int | None = None


class KnownImage(BaseModel):
    """An image that is kept, to be asked about."""

    image_id: str
    width: int
    height: int


class Detections(KnownImage):
    detections: list[Detection] = Field(description="best first")


class Answer(KnownImage):
    answer: str
    answers: list[tuple[str, float]] = Field(description="the best five with probabilities")
    words: list[Word] = Field(description="the question")
    detections: list[Detection] = Field(description="of its phrases, the best box each")


class Caption(KnownImage):
    caption: str
    caption_score: float = Field(description="mean log-probability of its tokens")
    words: list[Word] = Field(description="the caption")
    detections: list[Detection] = Field(description="of its phrases, the best box each")


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
    examples: list[Example]


class Health(BaseModel):
    status: Literal["ok"]
    waiting: int
    images: int


class Refusal(BaseModel):
    """What went wrong, in one line for people."""

    error: str
