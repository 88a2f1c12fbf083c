"""The web page, used by a headless browser as a person uses it."""

import shutil
import threading
import time
import zipfile

import pytest
import uvicorn
from PIL import Image

from glipv2_d2.cli.serve import LOCAL, listen
from glipv2_d2.serve.app import Served, create_app
from glipv2_d2.serve.guard import Guard
from glipv2_d2.serve.limits import Limits
from glipv2_d2.serve.page import EXAMPLES, PAGE
from glipv2_d2.serve.service import Service
from tests.support.served import png

LIMITS = Limits(upload=100_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def test_the_examples_are_there():
    assert set(EXAMPLES) == {path for path in PAGE if path.endswith(".jpg")}


@pytest.fixture
def server_address(serving_predictor):
    """A server in a thread of this process."""
    listener = listen("127.0.0.1", 0)
    service = Service(serving_predictor, LIMITS)
    app = Guard(create_app(service, Served("tiny", LIMITS, examples=True)), LIMITS, LOCAL)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(server_address):
    """A tab of a browser; what its console says is an error."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 400, "height": 800}, accept_downloads=True)
        page.set_default_timeout(30_000)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server_address)
        page.wait_for_selector("html[data-ready]")
        yield page
        assert not problems
        browser.close()


def rows(page):
    return page.locator("#found li").all_inner_texts()


def refused_files(page, folder):
    """What is no photo is told without a server, and nothing can be asked yet."""
    notes, large = folder / "notes.png", folder / "large.png"
    notes.write_bytes(b"no image")
    large.write_bytes(bytes(100_001))
    page.set_input_files("#file", notes)
    page.get_by_text("notes.png is no image that this browser can show").wait_for()
    page.set_input_files("#file", large)
    page.get_by_text("large.png has 0.1 MB, and at most 0.1 MB").wait_for()
    assert page.get_by_role("button", name="Detect").is_disabled()


def asked_in_every_way(page):
    """A server's error is a line, and the page goes on."""
    page.get_by_label("What to look for").fill("x" * 4001)
    page.keyboard.press("Enter")
    page.get_by_text("prompt: 4,001 characters are too many").wait_for()
    page.get_by_role("radio", name="Ask").check()
    page.get_by_label("Your question").fill("is the dog red?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answers li")
    assert page.locator("[role=alert]").is_hidden()
    assert page.locator("#answers li").count() == 5
    page.get_by_role("radio", name="Caption").check()
    page.get_by_role("button", name="Write a caption").click()
    page.wait_for_selector("#history li:nth-child(3)")


def downloaded(page, button):
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return download.value


def test_a_photo_is_asked_in_every_way(page, tmp_path):
    refused_files(page, tmp_path)
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(1))
    page.set_input_files("#file", photo)
    page.get_by_label("What to look for").fill("cat, dog, red kite")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found li")
    found = rows(page)
    assert "%" in found[0] and page.get_by_role("img", name="Image with").is_visible()

    asked = []
    page.on("request", lambda request: asked.append(request.url))
    slider = page.get_by_label("Least score")
    slider.fill("0.62")  # the threshold moves without a request
    fewer = rows(page)
    assert 0 < len(fewer) < len(found) and fewer == found[: len(fewer)]
    slider.fill("0.05")
    assert len(rows(page)) >= len(found)
    page.locator("#found button").first.focus()
    assert page.locator("#found button.active").count() == 1 and not asked

    asked_in_every_way(page)
    names = ["detect", "answer", "caption"]  # the first is refused
    assert [url.rpartition("/")[2] for url in asked if url.startswith("http")] == names
    page.get_by_role("button", name="cat, dog, red kite").click()
    assert rows(page) == found and len(asked) == 3  # shown again without a request

    picture = downloaded(page, "Save the picture")
    assert picture.suggested_filename == "photo-found.png"
    with Image.open(picture.path()) as image:
        assert image.size == (80, 64)
    page.get_by_label("as", exact=True).select_option("yolo")
    labels = downloaded(page, "Save the labels")
    assert labels.suggested_filename == "photo-yolo.zip"
    with zipfile.ZipFile(labels.path()) as files:
        (lines,) = [files.read(name) for name in files.namelist() if name.endswith("photo.txt")]
    assert 0 < len(lines.splitlines()) <= len(found)  # polygons of masks that are not empty
    # Nothing sticks out of a phone.
    assert page.locator("html").evaluate("node => node.scrollWidth") <= 400
