"""A request's body: json, a form with an image, or an image alone."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .limits import Limits

__all__ = ["body_of", "check_text", "read_body"]

Asked = TypeVar("Asked", bound=BaseModel)
JSON, FORM, BYTES = "application/json", "multipart/form-data", "application/octet-stream"
_IMAGE = {"type": "string", "format": "binary"}


async def read_body(request: Request, kind: type[Asked]) -> tuple[Asked, bytes | None]:
    """What is asked, and the image that was uploaded with it.

    An image alone is asked with the defaults.

    Raises:
        HTTPException: another content type (415), or a form without an image (422).
        pydantic.ValidationError: a field that is missing, unknown or wrong.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == JSON:
        return kind.model_validate_json(await request.body()), None
    if media == BYTES or media.startswith("image/"):
        return kind(), await request.body()
    if media != FORM:
        raise HTTPException(
            415, f"the content type is {JSON}, {FORM} or that of an image, not '{media}'"
        )
    async with request.form(max_files=1, max_fields=20) as form:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise HTTPException(422, "image: the form has no file of this name")
        # A field that comes again is a list: names of a prompt; where one value belongs, refused.
        given = {name: form.getlist(name) for name in form if name != "image"}
        fields = {name: of if len(of) > 1 else of[0] for name, of in given.items()}
        return kind.model_validate(fields), await image.read()


def check_text(name: str, text: str | list[str], limits: Limits) -> None:
    """Raise an HTTPException (422) where a text, or texts together, are too long."""
    count = len(text) if isinstance(text, str) else sum(map(len, text))
    if count > limits.text:
        detail = f"{name}: {count:,} characters are too many, at most {limits.text:,} are allowed"
        raise HTTPException(422, detail)


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """The `requestBody` of OpenAPI that `read_body` takes."""
    schema = kind.model_json_schema()
    fields, required = schema["properties"], schema.get("required", [])
    upload = {"image": _IMAGE, **{k: v for k, v in fields.items() if k not in ("image_id", "url")}}
    form = {"type": "object", "properties": upload, "required": ["image", *required]}
    content: dict[str, Any] = {JSON: {"schema": schema}, FORM: {"schema": form}}
    if not required:
        content["image/*"] = {"schema": _IMAGE}
    return {"requestBody": {"required": True, "content": content}}
