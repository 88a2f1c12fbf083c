"""Fetch an image from the public internet, and from nowhere else (`glip serve --allow-urls`)."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from ..errors import UsageError
from .limits import Limits

__all__ = ["fetch", "public_addresses"]

REDIRECTS = 3
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Global or not after the version of Python: a cloud's metadata, NAT64 within a network.
_INSIDE = [ipaddress.ip_network(net) for net in ("192.0.0.0/24", "64:ff9b:1::/48")]
_CHUNK = 64 * 1024


class _Answer(NamedTuple):
    body: bytes
    moved_to: str | None = None


def fetch(url: str, limits: Limits) -> bytes:
    """The bytes of an image at a public address.

    The host's name is resolved once and the connection goes to the address that was checked, so
    that a name server cannot answer the check and the connection differently. Redirects are
    followed and checked in the same way; no proxy is asked.

    Raises:
        UsageError: no http or https address of a public host, or none that gives an image of at
            most `limits.upload` bytes in `limits.seconds`.
    """
    until = time.monotonic() + limits.seconds
    for _ in range(REDIRECTS + 1):
        try:
            answer = _get(_checked(url), limits, until)
        except (OSError, http.client.HTTPException) as error:
            _refuse_late(limits, until)
            detail = str(error) or type(error).__name__
            raise UsageError(f"'{url}' cannot be fetched: {detail}") from None
        if answer.moved_to is None:
            return answer.body
        url = urljoin(url, answer.moved_to)
    raise UsageError(f"'{url}' cannot be fetched: more than {REDIRECTS} redirects")


def public_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, all of which are public.

    Raises:
        UsageError: one is private, loopback, link-local (where clouds tell a machine its secrets),
            multicast or reserved, also inside an IPv6 address; or there is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(f"the host '{host}' is not known") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses or not all(map(_is_public, addresses)):
        raise UsageError(f"the host '{host}' is no public one: images of it are not fetched")
    return addresses


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo or address.is_site_local:
            return False
        if inner is not None:
            return _is_public(str(inner))
    inside = address.is_multicast or any(address in net for net in _INSIDE)
    return address.is_global and not inside


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"'{url}' is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"'{url}' is no address that begins with http:// or https://")
    if parts.username is not None or port not in (None, 80, 443):
        raise UsageError(f"'{url}' has a user name or an unusual port, which is refused")
    if any(ord(char) <= 32 or ord(char) > 126 for char in url):
        raise UsageError(f"'{url}' has characters that must be escaped (%20)")
    return parts


def _get(parts: SplitResult, limits: Limits, until: float) -> _Answer:
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    host = str(parts.hostname)
    with ExitStack() as ends:
        connection = _Connection(host, port, timeout=limits.seconds)
        ends.callback(connection.close)
        connection.open(public_addresses(host, port)[0], secure, until, ends)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "glip-serve"})
        response = connection.getresponse()
        _refuse_late(limits, until)  # the connection was ended, perhaps amid the headers
        if response.status in (301, 302, 303, 307, 308):
            return _Answer(b"", response.headers.get("Location", ""))
        kind = response.headers.get_content_type()
        if response.status != 200 or not kind.startswith("image/"):
            raise UsageError(f"'{parts.geturl()}' gives no image: {response.status}, {kind}")
        return _Answer(_body(response, limits, until))


def _body(response: http.client.HTTPResponse, limits: Limits, until: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > limits.upload:
            raise UsageError(f"the image of the address is larger than {limits.upload:,} bytes")
    _refuse_late(limits, until)
    return b"".join(parts)


def _refuse_late(limits: Limits, until: float) -> None:
    if time.monotonic() >= until:
        raise UsageError(f"the image of the address did not come in {limits.seconds:g} s")


class _Connection(http.client.HTTPConnection):
    """To an address that was checked, in the name of its host, and ended when its time is over:
    the timeout of a socket is one of silence, and a site may send a header a minute."""

    def open(self, address: str, secure: bool, until: float, ends: ExitStack) -> None:
        self.sock = socket.create_connection((address, self.port), self.timeout)
        control = self.sock.dup()  # of the same connection, also below TLS
        timer = threading.Timer(max(until - time.monotonic(), 0.0), _end, (control,))
        timer.daemon = True
        timer.start()
        ends.callback(control.close)
        ends.callback(timer.cancel)
        if secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # it is over already
        connection.shutdown(socket.SHUT_RDWR)
