"""A server's application with the tiny model, asked without a server."""

import asyncio
import io
import struct
import zlib
from contextlib import asynccontextmanager

import httpx
import numpy as np
from PIL import Image

from glipv2_d2.serve.app import Served, create_app
from glipv2_d2.serve.guard import Guard
from glipv2_d2.serve.limits import Limits
from glipv2_d2.serve.service import Service

LIMITS = Limits()


def pixels(seed, height=64, width=80):
    """(H, W, 3) uint8, BGR."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed, height=64, width=80):
    """An image file of `pixels`."""
    file = io.BytesIO()
    Image.fromarray(pixels(seed, height, width)[:, :, ::-1]).save(file, "PNG")
    return file.getvalue()


def bomb(width, height):
    """A PNG of some bytes that says it is huge."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)


@asynccontextmanager
async def served(predictor, limits=LIMITS, search=None, **options):
    """A client of a server; its `service` is an attribute."""
    service = Service(predictor, limits, search)
    app = Guard(create_app(service, Served("tiny", limits, **options)), limits, {"localhost"})
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", timeout=None
    ) as client:
        client.service = service
        yield client
    await service.stop()


def asking(predictor, talk, limits=LIMITS, **options):
    """The result of `await talk(client)` with a server of one's own."""

    async def main():
        async with served(predictor, limits, **options) as client:
            return await talk(client)

    return asyncio.run(main())
