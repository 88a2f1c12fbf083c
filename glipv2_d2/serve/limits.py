"""What one request, and all of them together, may take."""

from dataclasses import dataclass

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What the server refuses, each with its own status and one line.

    Attributes:
        upload: most bytes of a request's body (413).
        pixels: most pixels of an image, told from its header before it is decoded (413).
        text: most characters of a prompt, a question or a beginning (422).
        requests: most requests that are in the server at once; a further one is asked to come again
            (503 with Retry-After).
        seconds: a request has at most this time, its upload included (504).
        cache: most bytes of encoded images that are kept; the one that was asked longest ago goes.
        keep: seconds that an encoded image is kept after it was asked last.
    """

    upload: int = 20 * MEGA
    pixels: int = 50 * MEGA
    text: int = 4000
    requests: int = 64
    seconds: float = 60.0
    cache: int = 1000 * MEGA
    keep: float = 3600.0
