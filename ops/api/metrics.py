"""Metrics for Prometheus, read off the status store at each scrape."""

import time
from collections.abc import Iterable
from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from ops.alerts import alerts
from ops.api.access import Reader
from ops.api.door import TheDoor
from ops.metrics import families
from ops.snapshot import take

router = APIRouter(tags=["health"])
_VERSION = version("number-renewal")


class _Scrape(Collector):
    """What one scrape found."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    @override
    def collect(self) -> Iterable[Metric]:
        return self._found


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(door: TheDoor, _: Reader, request: Request) -> Response:
    """Count everything once, in the text format of Prometheus or, where it is asked for, in OpenMetrics."""
    now = take(door.backends, door.catalogue, taken_s=time.monotonic())
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(list(families(now, alerts(now), version=_VERSION))))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"Content-Type": media_type})
