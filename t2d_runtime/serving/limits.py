"""Limits of the service: what one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20

MOST_ITERATIONS, MOST_DILATIONS, MOST_DILATION = 50, 12, 64
"""Limits of PAMR for strangers, five times the published iterations: a call that runs cannot be stopped."""

BESIDE_ENCODING = 3
"""Requests in work besides those that are encoded: in reading, masks and answer. It bounds the decoded pictures."""


@dataclass(frozen=True)
class Limits:
    """Limits of the service. Sizes are in bytes, times in seconds."""

    queue: int = 64
    """Requests that wait or are in work. One more is refused at once, with 429."""
    encoders: int = 1
    """Pictures that are encoded at a time, each by one call of the engine."""
    deadline_s: float = 60.0
    """Time from a request's head to its answer."""
    body_bytes: int = 32 * MIB
    """Largest body of a request."""
    uploads_bytes: int = 1024 * MIB
    """Bodies of all requests together."""
    pixels: int = 50_000_000
    """Most pixels of a picture, width x height."""
    phrases: int = 200
    """Most phrases of a request, synonyms and negatives included."""
    templates: int = 100
    """Most prompt templates of a request."""
    scores: int = 4_000_000_000
    """Most pixels x phrases of a request: about half a minute of work on two cores."""
    images_bytes: int = 512 * MIB
    """Encoded pictures that are kept for more questions."""
    head_s: float = 10.0
    """Time for a request's head, from the connection or the answer before it."""
    upload_s: float = 20.0
    """Time for a request's body."""
    answer_s: float = 30.0
    """Longest time in which a client may take nothing of its answer."""
    connections: int = 1000
    """Open connections. One more is answered with 503."""
    viewers: int = 32
    """Clients that look at the live source."""
