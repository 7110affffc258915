"""Figures of the service for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters, histograms and gauges in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter("t2d_requests", "Answers", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "t2d_request_seconds", "Time to the answer", ("route",), buckets=BUCKETS_S, registry=self.registry
        )
        self.stages = Histogram(
            "t2d_stage_seconds", "Time in a stage", ("stage",), buckets=BUCKETS_S, registry=self.registry
        )
        self.queue = Gauge("t2d_queue_requests", "Requests that wait or are in work", registry=self.registry)
        self.places = Gauge("t2d_queue_places", "Requests that the queue holds", registry=self.registry)
        self.left = Counter("t2d_clients_left", "Clients that left before their answer", registry=self.registry)
        self.images = Gauge("t2d_images", "Encoded pictures kept", registry=self.registry)
        self.images_bytes = Gauge("t2d_images_bytes", "Bytes of encoded pictures kept", registry=self.registry)
        self.viewers = Gauge("t2d_live_viewers", "Clients that look at the live source", registry=self.registry)
        self.live_frames = Counter("t2d_live_frames", "Frames of the live source segmented", registry=self.registry)
        self.uploads_bytes = Gauge("t2d_uploads_bytes", "Bytes of the bodies of open requests", registry=self.registry)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
