"""Images of the public internet are fetched, and nothing of the server's own networks."""

import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from glipv2_d2.errors import UsageError
from glipv2_d2.serve import addresses
from glipv2_d2.serve.limits import Limits

PUBLIC = "93.184.216.34"
LIMITS = Limits(upload=1000, seconds=5.0)


@pytest.fixture
def names(monkeypatch):
    """What each host's name is resolved to; numbers are themselves. Nothing else is asked."""
    known = {"public.example": [PUBLIC]}

    def resolve(host, port, **_):
        found = known.get(host, [host] if host[0].isdigit() or ":" in host else [])
        if not found:
            raise socket.gaierror("no such host")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
    return known


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::", "2001:db8::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_a_host_that_is_not_public_is_refused(address, names):
    names["inside.example"] = [PUBLIC, address]  # one public address does not help
    with pytest.raises(UsageError, match="'inside.example' is no public one"):
        addresses.public_addresses("inside.example", 80)


@pytest.mark.parametrize(
    "address", [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808"]
)
def test_a_public_host(address, names):
    names["outside.example"] = [address]
    assert addresses.public_addresses("outside.example", 443) == [address]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "no address that begins with http:// or https://"),
        ("gopher://public.example/", "no address that begins with"),
        ("http:///etc/passwd", "no address that begins with"),
        ("//public.example/a.jpg", "no address that begins with"),
        ("http://user:word@public.example/", "user name or an unusual port"),
        ("http://public.example:6379/", "user name or an unusual port"),
        ("http://public.example:99999/", "is no address"),
        ("http://[::1/", "is no address"),
        ("http://public.example/a b.jpg", "characters that must be escaped"),
        ("http://public.example/a\r\nHost: other", "characters that must be escaped"),
        ("http://unknown.example/", "the host 'unknown.example' is not known"),
        ("http://localhost/", "is not known"),
        ("http://127.0.0.1/", "'127.0.0.1' is no public one"),
        ("http://[::ffff:127.0.0.1]/", "is no public one"),
        ("http://169.254.169.254/latest/meta-data/", "'169.254.169.254' is no public one"),
        ("http://2130706433/", "2130706433"),
    ],
)  # fmt: skip
def test_an_address_that_is_refused(url, message, names, monkeypatch):
    monkeypatch.setattr(
        addresses.socket, "create_connection", lambda *_: pytest.fail("it was connected to")
    )
    names["2130706433"] = ["127.0.0.1"]  # as the C library reads it
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        addresses.fetch(url, LIMITS)


class Site(BaseHTTPRequestHandler):
    """Its paths say what it does."""

    def do_GET(self):
        kind, _, target = self.path.lstrip("/").partition("?")
        if kind == "slow":
            self.drip(target)
            return
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()
            return
        self.send_response(404 if kind == "missing" else 200)
        self.send_header("Content-Type", "text/html" if kind == "page" else "image/png")
        self.end_headers()
        size = 5000 if kind == "large" else 10
        self.wfile.write(b"x" * size if kind != "host" else self.headers["Host"].encode())

    def drip(self, part):
        begin = {"status": "", "headers": "HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n"}
        begin["body"] = begin["headers"] + "\r\n"
        line = {"status": "H", "headers": "X: 1\r\n", "body": "x"}[part]
        with suppress(OSError):  # until nobody listens
            self.wfile.write(begin[part].encode())
            while True:
                self.wfile.write(line.encode())
                time.sleep(0.02)

    def log_message(self, *_):
        pass


@pytest.fixture
def public_site(names, monkeypatch):
    """`public.example`, and where the connections went."""
    server = HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    asked = []

    def connect_to_site(address, timeout):
        asked.append(address)
        connected = socket.socket()
        connected.settimeout(timeout)
        connected.connect(server.server_address)
        return connected

    monkeypatch.setattr(addresses.socket, "create_connection", connect_to_site)
    yield asked
    server.shutdown()
    server.server_close()


def test_an_image_is_fetched_from_the_address_that_was_checked(public_site):
    assert addresses.fetch("http://public.example/a", LIMITS) == b"x" * 10
    assert addresses.fetch("http://public.example/host", LIMITS) == b"public.example"
    assert addresses.fetch("http://public.example/moved?/a", LIMITS) == b"x" * 10
    assert set(public_site) == {(PUBLIC, 80)}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("moved?http://127.0.0.1/", "'127.0.0.1' is no public one"),
        ("moved?//169.254.169.254/a", "'169.254.169.254' is no public one"),
        ("moved?file:///etc/passwd", "no address that begins with"),
        ("moved?http://public.example:22/", "unusual port"),
        ("moved?/moved?/moved?/moved?/moved?/a", "more than 3 redirects"),
        ("missing", "gives no image: 404"),
        ("page", "gives no image: 200, text/html"),
        ("large", "larger than 1,000 bytes"),
    ],
)
def test_what_comes_is_checked_too(path, message, public_site):
    with pytest.raises(UsageError, match=message):
        addresses.fetch(f"http://public.example/{path}", LIMITS)
    assert set(public_site) == {(PUBLIC, 80)}


@pytest.mark.parametrize("part", ["status", "headers", "body"])
def test_a_site_that_drips(public_site, part):
    begin = time.monotonic()
    with pytest.raises(UsageError, match=r"did not come in 0\.3 s"):
        addresses.fetch(f"http://public.example/slow?{part}", Limits(upload=1000, seconds=0.3))
    assert time.monotonic() - begin < 10
