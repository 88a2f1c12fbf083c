"""The application: its addresses, and how each error is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from ..engine.encoded_image import EncodedImage
from ..errors import UserError
from . import schemas
from .guard import RETRY_AFTER
from .image_store import UnknownImage
from .labels import LABEL_FORMATS
from .limits import Limits
from .page import EXAMPLES, PAGE
from .requests import body_of, check_text, read_body
from .service import Service, UnknownRegion
from .uploads import TooManyPixels
from .worker import Stopping

__all__ = ["Served", "create_app"]

ZIP, JPEG = "application/zip", "image/jpeg"
_REFUSALS = {
    404: "no such image or region",
    413: "too large",
    415: "another content type",
    422: "what is asked cannot be used",
    503: "too many requests wait; Retry-After says when to come again",
    504: "out of time",
}
api = APIRouter(
    prefix="/v1",
    responses={
        status: {"model": schemas.Refusal, "description": text}
        for status, text in _REFUSALS.items()
    },
)


class Served(NamedTuple):
    """What the application is made for.

    Attributes:
        name: of the model, for people.
        limits: of each request.
        urls: whether images may be named by their address.
        examples: whether the shipped images suit the model.
    """

    name: str
    limits: Limits = Limits()
    urls: bool = False
    examples: bool = False


def create_app(service: Service, served: Served) -> FastAPI:
    """The application; at its end it stops the service. See `Guard` for what stands before it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.stop()

    app = FastAPI(
        title="glip serve",
        summary="Detect what words name, answer questions about images and caption them",
        version=version("glipv2_d2"),
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _refused,
            UnknownImage: _unknown_image,
            UnknownRegion: _unknown_region,
            ValidationError: _not_valid,
            RequestValidationError: _not_valid,
            UserError: _not_usable,
            Stopping: _stopping,
            Exception: _bug,
        },
    )
    app.state.service, app.state.served = service, served
    app.include_router(api)
    app.add_api_route("/health", health, response_model=schemas.Health)
    searches = "search" in service.tasks
    for path in (path for path in PAGE if searches or not path.startswith("/search.")):
        app.add_api_route(path, _page, methods=["GET", "HEAD"], include_in_schema=False)
    return app


async def health(request: Request) -> dict[str, Any]:
    """Whether the server answers."""
    service = _service(request)
    return {"status": "ok", "waiting": service.waiting, "images": len(service.images)}


@api.get("/model", response_model=schemas.Model)
async def model(request: Request) -> dict[str, Any]:
    """Which model it is, and what is allowed."""
    served: Served = request.app.state.served
    service = _service(request)
    return {
        "model": served.name,
        "version": version("glipv2_d2"),
        "tasks": service.tasks,
        "threshold": service.threshold,
        "urls": served.urls,
        "limits": {
            "bytes": served.limits.upload,
            "pixels": served.limits.pixels,
            "characters": served.limits.text,
            "seconds": served.limits.seconds,
        },
        "formats": LABEL_FORMATS,
        "examples": [
            {"address": address, "prompt": prompt}
            for address, prompt in (EXAMPLES.items() if served.examples else ())
        ],
    }


@api.post("/images", response_model=schemas.KnownImage, openapi_extra=body_of(schemas.AskedImage))
async def add_image(request: Request) -> dict[str, Any]:
    """Upload an image, to ask about it any number of times."""
    return (await _asked(request, schemas.AskedImage)).known


@api.post(
    "/detect", response_model=schemas.FoundDetections, response_model_exclude_none=True,
    openapi_extra=body_of(schemas.AskedDetections),
)  # fmt: skip
async def detect(request: Request) -> dict[str, Any]:
    """Find what words name: boxes, and masks where the model has them."""
    what, image, known = await _asked(request, schemas.AskedDetections, "prompt", "negatives")
    return known | await _service(request).detect(image, what)


@api.post("/answer", response_model=schemas.FoundAnswer, openapi_extra=body_of(schemas.AskedAnswer))
async def answer(request: Request) -> dict[str, Any]:
    """Answer a question, and find what it speaks of."""
    what, image, known = await _asked(request, schemas.AskedAnswer, "question")
    return known | await _service(request).answer(image, what)


@api.post(
    "/caption", response_model=schemas.FoundCaption, openapi_extra=body_of(schemas.AskedCaption)
)
async def caption(request: Request) -> dict[str, Any]:
    """Write a caption, and find what it speaks of."""
    what, image, known = await _asked(request, schemas.AskedCaption, "beginning")
    return known | await _service(request).caption(image, what)


@api.post("/search", response_model=schemas.FoundRegions)
async def search(request: Request, asked: schemas.AskedSearch) -> dict[str, Any]:
    """Find regions of the index that fit a text."""
    check_text("text", asked.text, request.app.state.served.limits)
    return await _service(request).search(asked)


@api.post(
    "/search/example", response_model=schemas.FoundLike, openapi_extra=body_of(schemas.AskedExample)
)
async def search_example(request: Request) -> dict[str, Any]:
    """Find regions of the index that are like a box of an image."""
    what, image, known = await _asked(request, schemas.AskedExample)
    return known | await _service(request).example(image, what)


@api.post("/region", response_class=Response, responses={200: {"content": {JPEG: {}}}})
async def region(request: Request, asked: schemas.AskedPicture) -> Response:
    """A picture of a region of the index, with what is around it."""
    return Response(await _service(request).picture(asked), media_type=JPEG)


@api.post("/labels", response_class=Response, responses={200: {"content": {ZIP: {}}}})
async def labels(request: Request, asked: schemas.AskedLabels) -> Response:
    """Detections as a zip of label files: COCO, YOLO, Pascal VOC, Label Studio, ..."""
    if asked.height * asked.width > request.app.state.served.limits.pixels:
        raise HTTPException(413, "the image has too many pixels")
    content = await _service(request).labels(asked)
    name = f'attachment; filename="{asked.format}.zip"'
    return Response(content, media_type=ZIP, headers={"Content-Disposition": name})


class _Asked(NamedTuple):
    what: Any
    image: EncodedImage
    known: dict[str, Any]


async def _asked(request: Request, kind: type[schemas.AskedImage], *texts: str) -> _Asked:
    """What is asked, of which image; `texts` are the fields that may be too long."""
    service, served = _service(request), request.app.state.served
    what, data = await read_body(request, kind)
    for text in texts:
        check_text(text, getattr(what, text), served.limits)
    if [what.image_id, what.url, data].count(None) != 2:
        raise HTTPException(422, "give one image: an upload, or the image_id of one that is kept")
    if what.url is not None:
        if not served.urls:
            raise HTTPException(422, "url: this server was started without --allow-urls")
        data = await service.fetch(what.url)
    if data is not None:
        image_id, image = await service.add(data)
    else:
        image_id = str(what.image_id)
        image = service.images.get(image_id)
    height, width = image.size
    return _Asked(what, image, {"image_id": image_id, "height": height, "width": width})


def _service(request: Request) -> Service:
    return request.app.state.service


async def _page(request: Request) -> Response:
    file = PAGE[request.scope["route"].path]
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": "no-cache"})


def _error(status: int, message: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)


async def _refused(_: Request, error: HTTPException) -> JSONResponse:
    return _error(error.status_code, str(error.detail), error.headers)


async def _unknown_image(_: Request, __: UnknownImage) -> JSONResponse:
    return _error(404, "the image is not kept any more: upload it again")


async def _unknown_region(_: Request, __: UnknownRegion) -> JSONResponse:
    return _error(404, "the region is not in the index any more: search again")


async def _not_valid(_: Request, error: ValidationError | RequestValidationError) -> JSONResponse:
    problems = (f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
    return _error(422, "; ".join(problems))


async def _not_usable(_: Request, error: UserError) -> JSONResponse:
    return _error(413 if isinstance(error, TooManyPixels) else 422, str(error))


async def _stopping(_: Request, __: Stopping) -> JSONResponse:
    return _error(503, "the server stops", {"Retry-After": str(RETRY_AFTER)})


async def _bug(request: Request, error: Exception) -> JSONResponse:
    """The traceback is in the log: the server raises the error again."""
    return _error(500, f"{request.url.path} failed inside the server, whose log says why")
