"""What holds for every request before the application sees it: who asks, how much, how long."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits

__all__ = ["Guard"]

RETRY_AFTER = 2  # seconds
# The page has no script, style or picture from elsewhere, and is in nobody's frame.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """An ASGI middleware: limits, and what browsers are told.

    Refused are a Host that is not ours (a foreign name that was pointed at this machine, "DNS
    rebinding"), requests of other web sites, bodies that are too large (by their header, or as soon
    as they are: nothing more is read), and more requests than can wait. A request that takes too
    long, or whose client has gone, is cancelled.

    Args:
        app: what is guarded.
        hosts: names of this server without the port; None: any.
    """

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Collection[str] | None):
        self._app = app
        self._limits = limits
        self._hosts = hosts
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answer = _Answer(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            return await refusal(scope, receive, answer.send)
        if scope["method"] != "POST":  # costs nothing
            return await self._app(scope, receive, answer.send)
        self._open += 1
        try:
            await self._within_limits(scope, receive, answer)
        finally:
            self._open -= 1

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = _place(f"//{headers.get('host', '')}")
        if self._hosts is not None and host.hostname not in self._hosts:
            name = sorted(self._hosts)[0]
            return _error(421, f"this server has another name than '{host.netloc}': use {name}")
        origin = headers.get("origin")
        if origin is not None and _place(origin).netloc != host.netloc:
            return _error(403, f"requests of other web sites ({origin}) are refused")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.upload:
            return _error(413, _too_large(self._limits))
        if scope["method"] == "POST" and self._open >= self._limits.requests:
            message = f"{self._open} requests are waiting already: try again in {RETRY_AFTER} s"
            return _error(503, message, {"Retry-After": str(RETRY_AFTER)})
        return None

    async def _within_limits(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        body = _Body(receive, self._limits)
        work = asyncio.ensure_future(self._app(scope, body.receive, answer.send))
        gone = asyncio.ensure_future(body.client_gone())
        try:
            await asyncio.wait(
                {work, gone},
                timeout=self._limits.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            in_time, client_there = work.done(), not gone.done()
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            await asyncio.wait({work, gone})
        if in_time and not work.cancelled():
            error = work.exception()
            if error is not None and not isinstance(error, ClientDisconnect):
                raise error
        elif client_there and not answer.begun:
            message = f"not done in {self._limits.seconds:g} s: ask less, or try again later"
            await _error(504, message)(scope, receive, answer.send)


class _Body:
    """A request's body, not more of it than is allowed, and the client's going afterwards."""

    def __init__(self, receive: Receive, limits: Limits):
        self._receive = receive
        self._limits = limits
        self._read = 0
        self._ended = asyncio.Event()
        self._gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
            self._ended.set()
        elif message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._limits.upload:
                raise HTTPException(413, _too_large(self._limits))
            if not message.get("more_body", False):
                self._ended.set()
        return message

    async def client_gone(self) -> None:
        await self._ended.wait()
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"


class _Answer:
    """Sends, with the headers that every answer has."""

    def __init__(self, send: Send):
        self._send = send
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _place(url: str) -> SplitResult:
    """An address in its parts; without any where it is none."""
    try:
        return urlsplit(url.lower())
    except ValueError:
        return urlsplit("")


def _too_large(limits: Limits) -> str:
    return f"the request is larger than {limits.upload:,} bytes: send a smaller image"


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)
