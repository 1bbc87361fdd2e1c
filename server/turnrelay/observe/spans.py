"""Spans: allocations as OpenTelemetry traces, sent by OTLP over HTTP. The extra `turnrelay[otel]` brings it.

The same events as the log, and like it without addresses, names or accounts.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from turnrelay.core.events import (
    AllocationCreated,
    AllocationEnded,
    AllocationRefused,
    AuthenticationFailed,
    Event,
    PeerDenied,
)
from turnrelay.observe.log import WORTH_A_LINE

_EXPORT_SECONDS: Final = 5
_COMPLAINT_SECONDS: Final = 60.0


class Spans:
    """One span for each allocation, from its creation to its end, and one for each that was refused.

    Peers that were denied and requests that were not accepted are events of the span. What the collector
    does not take is dropped: a bounded queue, emptied by a thread of the SDK.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        """`endpoint` is the collector's base URL, "http://127.0.0.1:4318"; traces go to its /v1/traces."""
        _log_complaints()
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
        resource = Resource.create({"service.name": "turnrelay", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("turnrelay", version)
        self._open: dict[str, Span] = {}

    def observe(self, event: Event) -> None:
        """Opens, marks or ends the span that the event belongs to."""
        match event:
            case AllocationCreated():
                attributes: dict[str, str | int] = {
                    "turnrelay.allocation.id": event.allocation_id,
                    "turnrelay.allocation.lifetime": event.lifetime,
                    "turnrelay.client.transport": event.path.transport.value,
                }
                span = self._tracer.start_span("allocation", kind=SpanKind.SERVER, attributes=attributes)
                self._open[event.allocation_id] = span
            case AllocationEnded():
                ended = self._open.pop(event.allocation_id, None)
                if ended is None:
                    ended = self._span_begun_elsewhere(event)
                ended.set_attribute("turnrelay.end.reason", event.reason.value)
                ended.end()
            case AllocationRefused():
                refused = self._tracer.start_span("allocation", kind=SpanKind.SERVER)
                refused.set_attribute("turnrelay.client.transport", event.path.transport.value)
                refused.set_attribute("turnrelay.refusal.reason", event.reason.value)
                refused.set_attribute("turnrelay.refusal.code", int(event.code))
                refused.set_status(Status(StatusCode.ERROR, event.reason.value))
                refused.end()
            case PeerDenied():
                self._mark(event.allocation_id, "peer denied", event.rule.value)
            case AuthenticationFailed(_, reason, allocation_id):
                if allocation_id is not None and reason in WORTH_A_LINE:
                    self._mark(allocation_id, "authentication failed", reason.value)

    def close(self) -> None:
        """Sends what is left; takes seconds if the collector does not answer. What is open is dropped: its
        allocation goes on in another process, which will tell of its end."""
        self._open.clear()
        self._provider.shutdown()

    def _span_begun_elsewhere(self, event: AllocationEnded) -> Span:
        """The process that the allocation lived in before took its span along, and what it had marked."""
        attributes = {
            "turnrelay.allocation.id": event.allocation_id,
            "turnrelay.client.transport": event.path.transport.value,
        }
        began = time.time_ns() - int(event.age * 1e9)
        return self._tracer.start_span(
            "allocation", kind=SpanKind.SERVER, attributes=attributes, start_time=began
        )

    def _mark(self, allocation_id: str, name: str, reason: str) -> None:
        span = self._open.get(allocation_id)
        if span is not None:
            span.add_event(name, {"reason": reason})


class _Complaints(logging.Handler):
    """What the SDK complains of, as lines of our log, one a minute at most."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._next_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        if now >= self._next_at:
            self._next_at = now + _COMPLAINT_SECONDS
            structlog.get_logger().warning("spans are not exported", error=record.getMessage())


def _log_complaints() -> None:
    sdk = logging.getLogger("opentelemetry")
    sdk.propagate = False
    sdk.handlers = [_Complaints(time.monotonic)]
