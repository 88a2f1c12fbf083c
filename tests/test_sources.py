import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

from glipv2_d2 import sources
from glipv2_d2.errors import ImageReadError, MissingImageError
from glipv2_d2.images import read_image
from glipv2_d2.sources import archive_members, is_address, is_member, open_source, stamp
from tests.support.pretraining_files import write_tar

COLORS = {"a.png": (200, 0, 0), "dir/b c.png": (0, 0, 200)}


def png(color):
    Image.new("RGB", (6, 4), color).save(file := io.BytesIO(), "png")
    return file.getvalue()


@pytest.fixture(params=["zip", "tar"])
def archive(request, tmp_path):
    """Two pictures and a text in an archive whose folder has an exclamation mark."""
    folder = tmp_path / "no!"
    folder.mkdir()
    path = folder / f"photos.{request.param}"
    members = [*((name, png(color)) for name, color in COLORS.items()), ("notes.txt", b"text")]
    if request.param == "tar":
        write_tar(path, members)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("dir/", b"")
            for name, content in members:
                file.writestr(name, content)
    return str(path)


def test_members_of_archives_are_images(archive):
    assert archive_members(archive) == ["a.png", "dir/b c.png", "notes.txt"]
    for name, color in COLORS.items():
        assert is_member(f"{archive}!{name}")
        assert tuple(read_image(f"{archive}!{name}", "RGB")[0, 0]) == color
    assert stamp(f"{archive}!a.png") == stamp(archive)
    assert not is_member(f"{archive}!none.png") and not is_member(archive)
    assert not is_member("none.zip!a.png")
    with pytest.raises(MissingImageError, match=r"there is no image file '.*!none.png'"):
        read_image(f"{archive}!none.png")
    with pytest.raises(ImageReadError, match=r"!notes.txt' is not an image"):
        read_image(f"{archive}!notes.txt")


def test_forked_processes_read_one_archive_at_once(tmp_path):
    """As data workers do, after the process that they were forked from has read it."""
    members = {f"{i}.bin": bytes([i]) * 100_000 for i in range(8)}
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)

    def read_all():
        assert all(open_source(f"{path}!{name}").read() == members[name] for name in members)

    read_all()
    fork = get_context("fork")
    workers = [fork.Process(target=lambda: [read_all() for _ in range(50)]) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_an_archive_that_changes_is_read_anew(archive):
    read_image(f"{archive}!a.png")
    if archive.endswith("zip"):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("new.png", png((9, 9, 9)))
    else:
        write_tar(archive, [("new.png", png((9, 9, 9)))])
    assert archive_members(archive) == ["new.png"]
    assert read_image(f"{archive}!new.png")[0, 0, 0] == 9


@pytest.mark.parametrize("size", [400, 560, 1500])  # in a header, a picture, the second header
def test_an_archive_that_is_cut_off(archive, size):
    with open(archive, "r+b") as file:
        file.truncate(min(size, file.seek(0, 2) // 2))
    with pytest.raises(ImageReadError, match=r"photos\.(zip|tar)' is no whole (zip|tar) file"):
        archive_members(archive)


def test_a_file_of_such_a_name_comes_first(tmp_path):
    path = tmp_path / "a.zip!b.png"
    path.write_bytes(png((7, 7, 7)))
    assert read_image(path)[0, 0, 0] == 7


def test_a_member_that_is_too_large(archive, monkeypatch):
    monkeypatch.setattr(sources, "MOST_BYTES", 3)
    with pytest.raises(ImageReadError, match="a.png' has more than 0 MiB"):
        read_image(f"{archive}!a.png")


def test_an_encrypted_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.png", png((1, 1, 1)))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[6] |= 1  # the flag of the local header, and of the directory's
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ImageReadError, match="'a.png' of .*a.zip' cannot be read: .*encrypted"):
        read_image(f"{tmp_path}/a.zip!a.png")


class Odd(BaseHTTPRequestHandler):
    """/short ends before its length, /slow drips, /large does not end, /moved is elsewhere."""

    def do_GET(self):
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/whole")
        if self.path == "/short":
            self.send_header("Content-Length", "9999")
        self.end_headers()
        if self.path in ("/whole", "/short"):
            self.wfile.write(png((5, 5, 5)))
        while self.path in ("/slow", "/large"):
            try:
                self.wfile.write(b"x" * 70000)
            except OSError:
                return

    def log_message(self, *_):
        pass


@pytest.fixture
def odd_address(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_downloads_that_fail(odd_address, monkeypatch):
    assert read_image(f"{odd_address}/moved")[0, 0, 0] == 5
    with pytest.raises(ImageReadError, match=r"short' was cut off after \d+ of 9999 bytes"):
        read_image(f"{odd_address}/short")
    monkeypatch.setattr(sources, "MOST_BYTES", 1 << 20)
    with pytest.raises(ImageReadError, match="large' has more than 1 MiB"):
        read_image(f"{odd_address}/large")
    monkeypatch.setattr(sources, "DOWNLOAD_SECONDS", -1)
    with pytest.raises(ImageReadError, match="slow' has sent .* is not done"):
        read_image(f"{odd_address}/slow")
    with pytest.raises(ImageReadError, match="cannot be read"):
        read_image("http://127.0.0.1:1/a.png")


def test_a_download_is_not_kept(odd_address, monkeypatch):
    """What an address has today is asked today."""
    seen = []
    monkeypatch.setattr(sources, "_download", lambda url: seen.append(url) or png((1, 2, 3)))
    for _ in range(2):
        assert np.array_equal(read_image(f"{odd_address}/a.png")[0, 0], (3, 2, 1))
    assert len(seen) == 2


def test_addresses_are_no_paths(tmp_path):
    assert is_address("https://host/a.jpg") and is_address("S3://bucket/a.jpg")
    assert not is_address("C:/a.jpg") and not is_address("folder/a.jpg")
    assert stamp("https://host/a.zip!b.jpg") is None
    assert stamp("no/such/file.jpg") is None
    with pytest.raises(FileNotFoundError):
        open_source(str(tmp_path / "none.png"))
