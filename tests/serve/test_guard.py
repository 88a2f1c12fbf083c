"""Who may ask, how much, how long: before the application sees a request."""

import asyncio
import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from glipv2_d2.serve.guard import Guard
from glipv2_d2.serve.limits import Limits

LIMITS = Limits(upload=1000, requests=2, seconds=0.3)
HOSTS = {"localhost", "127.0.0.1", "::1"}


class Application:
    """Answers with the length of what it got; a body "wait" takes an hour."""

    def __init__(self):
        routes = [Route("/", self.count, methods=["POST"]), Route("/", self.page)]
        self.guarded = Guard(Starlette(routes=routes), LIMITS, HOSTS)
        self.begun = self.cancelled = 0

    async def page(self, request: Request):
        return PlainTextResponse("a page")

    async def count(self, request: Request):
        body = await request.body()
        self.begun += 1
        if body == b"wait":
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return JSONResponse({"length": len(body)})


@pytest.fixture
def application():
    return Application()


def client(application):
    transport = httpx.ASGITransport(application.guarded)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:7860")


def ask(application, method="POST", **options):
    async def main():
        async with client(application) as asking:
            return await asking.request(method, "/", **options)

    return asyncio.run(main())


def test_every_answer_tells_the_browser_what_is_allowed(application):
    for answer in (
        ask(application, "GET"),
        ask(application, content=b"abc"),
        ask(application, "DELETE"),
        ask(application, headers={"Host": "other"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:7860", "LocalHost:1", "[::1]:7860"])
def test_a_name_of_this_machine(application, host):
    assert ask(application, content=b"abc", headers={"Host": host}).json() == {"length": 3}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost@x"])
def test_a_foreign_name_that_points_here_is_refused(application, host):
    for method in ("GET", "POST"):
        answer = ask(application, method, headers={"Host": host})
        assert answer.status_code == 421 and "has another name than" in answer.json()["error"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:7860", 200),
        ("http://localhost:8000", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_other_web_sites_are_refused(application, origin, status):
    assert ask(application, content=b"abc", headers={"Origin": origin}).status_code == status


def test_a_large_body_is_refused_by_its_header_and_not_read(application):
    read = []

    async def body():
        read.append(1)
        yield b"x"

    answer = ask(application, content=body(), headers={"Content-Length": str(2_000_000_000)})
    assert answer.status_code == 413 and not read and not application.begun
    assert answer.json()["error"].startswith("the request is larger than 1,000 bytes")


def test_a_large_body_without_a_header_is_read_to_the_limit(application):
    read = []

    async def body():
        for _ in range(1000):
            read.append(100)
            yield bytes(100)

    answer = ask(application, content=body())
    assert answer.status_code == 413 and 1000 < sum(read) <= 1200
    assert ask(application, content=bytes(1000)).json() == {"length": 1000}


def test_a_request_that_takes_too_long_is_cancelled(application):
    answer = ask(application, content=b"wait")
    assert answer.status_code == 504 and "not done in 0.3 s" in answer.json()["error"]
    assert application.cancelled == 1


def test_an_upload_that_takes_too_long_is_cancelled(application):
    async def body():
        yield b"x"
        await asyncio.sleep(3600)

    assert ask(application, content=body()).status_code == 504 and not application.begun


def test_more_requests_than_can_wait_are_told_when_to_come_again(application):
    async def main():
        async with client(application) as asking:
            waiting = [asyncio.ensure_future(asking.post("/", content=b"wait")) for _ in range(2)]
            while application.begun < 2:
                await asyncio.sleep(0.01)
            refused = await asking.post("/", content=b"abc")
            page = await asking.get("/")
            await asyncio.gather(*waiting)
            return refused, page, await asking.post("/", content=b"abc")

    refused, page, later = asyncio.run(main())
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
    assert "2 requests are waiting already" in refused.json()["error"]
    assert page.text == "a page" and later.json() == {"length": 3}


@pytest.mark.parametrize("after", ["the whole body", "half the body"])
def test_a_client_that_goes_makes_room_at_once(application, after):
    """The ASGI messages themselves: an HTTP client waits for its answer."""
    half = {"type": "http.request", "body": b"wait", "more_body": after == "half the body"}
    messages = [half, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        await asyncio.sleep(0.02)
        return messages.pop(0) if messages else await asyncio.sleep(3600)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
        "headers": [(b"host", b"localhost")], "root_path": "",
    }  # fmt: skip

    async def main():
        patient = Guard(application.guarded._app, Limits(seconds=60), HOSTS)
        await asyncio.wait_for(patient(scope, receive, send), 5)

    asyncio.run(main())
    began = after == "the whole body"
    assert (application.begun, application.cancelled) == (began, began)
    assert not began or not sent


def test_errors_are_json(application):
    answer = ask(application, headers={"Host": "other"})
    assert list(json.loads(answer.text)) == ["error"]
