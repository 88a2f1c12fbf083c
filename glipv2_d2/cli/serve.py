"""`glip serve`: load a model, and answer until somebody stops it."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from ..engine.contrast_embedder import ContrastEmbedder
from ..engine.predictor import GroundingPredictor
from ..engine.region_search import RegionSearch
from ..errors import UsageError
from ..search.store import RegionStore
from ..serve.app import Served, create_app
from ..serve.guard import Guard
from ..serve.limits import MEGA, Limits
from ..serve.service import Service
from ..sources import is_address

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
BACKLOG = 128  # connections that wait to be accepted


def run(args: argparse.Namespace) -> int:
    """Serve."""
    limits = Limits(
        upload=args.max_upload_mb * MEGA,
        pixels=args.max_megapixels * MEGA,
        requests=args.max_requests,
        seconds=float(args.timeout),
        cache=args.cache_mb * MEGA,
        keep=60.0 * args.keep_minutes,
    )
    with listen(args.host, args.port) as listener:  # a port in use is told before the model loads
        predictor = GroundingPredictor.from_config(
            args.config_file,
            args.weights,
            device=args.device,
            batch_size=args.batch_size,
            phrases=args.phrases,
        )
        search = _search_of(args.index, predictor) if args.index else None
        name = Path(args.weights).stem
        served = Served(name, limits, args.allow_urls, examples=name == "glipv2_scenes")
        app = create_app(Service(predictor, limits, search), served)
        guard = Guard(app, limits, LOCAL if args.host in LOCAL else None)
        if args.host not in LOCAL:
            print(f"anybody who reaches {args.host} can use this server", file=sys.stderr)
        host = f"[{args.host}]" if ":" in args.host else args.host
        port = listener.getsockname()[1]
        print(f"serving {name} at http://{host}:{port} (Ctrl-C stops)", flush=True)
        answer_until_stopped(guard, listener, limits)
    return 0


def _search_of(index: str, predictor: GroundingPredictor) -> RegionSearch:
    """The search of an index for as long as the process runs.

    Raises:
        UsageError: its images are at addresses.
        DataError: there is none, or it was made by another model.
    """
    store = RegionStore(index)
    remote = next(filter(is_address, store.stamps()), None)
    if remote is not None:
        raise UsageError(
            f"the index '{index}' has images of addresses, as {remote}, which a server does not "
            "fetch: index files"
        )
    return RegionSearch(store, ContrastEmbedder(predictor, store.made_by["prompt"]))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens already.

    Raises:
        UsageError: the host is not one of this machine, or the port is in use or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{host} port {port} cannot be listened at ({detail}): give another --port, 0 for a "
            "free one, or another --host"
        ) from None


def answer_until_stopped(app: Guard, listener: socket.socket, limits: Limits) -> None:
    """Run the server until Ctrl-C or SIGTERM; what runs then is answered first."""
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(limits.seconds),
    )
    # uvicorn raises the signal once more when it has stopped: SIGTERM ends as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
