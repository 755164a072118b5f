"""OpenTelemetry traces: a span for each request and for each batch, if the environment asks for it.

It asks with OpenTelemetry's own variables: an endpoint, or an exporter. Without one of them its SDK
is not imported, and nothing is done for a request. What is wrong with the
configuration is a warning: a server without traces still serves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from omi_runtime.batch import Batch, Result
from omi_runtime.request import WORKED_ON, RequestContext
from omi_runtime.runner import Wanted

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

logger = logging.getLogger(__name__)

Run = Callable[[Batch, Wanted], Result]

ASKS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)
"""The variables any of which asks for traces."""

FLUSH_SECONDS: Final = 2.0
"""How long the end of the process waits for the last spans to be sent."""

_SERVERS_FAULT: Final = frozenset(
    {"INFERENCE_FAILED", "INTERNAL", "OVERLOADED", "DEADLINE_EXCEEDED", "MODEL_NOT_READY"}
)


def start(environ: Mapping[str, str], service: str) -> Tracer | None:
    """What makes the spans, or None: nobody asks for them, or they cannot be had.

    Args:
        environ: with OpenTelemetry's variables, which its SDK reads from the process's own.
        service: the name of the service where `OTEL_SERVICE_NAME` does not say.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or exporter == "none" or not any(environ.get(name) for name in ASKS):
        return None
    try:
        return Tracer(_provider(_exporter(exporter or "otlp", environ), environ, service))
    except _NoExporterError as error:
        logger.warning("no traces: %s", error)
    except ImportError as error:
        logger.warning("no traces: %s; install omi-runtime[otel]", error)
    except Exception as error:  # noqa: BLE001 - whatever a library says to its configuration
        logger.warning("no traces: OpenTelemetry refuses its configuration: %s", error)
    return None


class _NoExporterError(Exception):
    """What the environment asks for is not installed."""


def _exporter(name: str, environ: Mapping[str, str]) -> EntryPoint:
    """What is installed under an exporter's name; `otlp` is one of several, by the protocol."""
    wanted, remedy = f"OTEL_TRACES_EXPORTER={name!r}", "a package that has it"
    if name == "otlp":
        name, remedy = "otlp_proto_http", "omi-runtime[otel]"
        wanted = "OpenTelemetry's exporter for OTLP"
        for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if protocol := environ.get(variable):
                wanted = f"{variable}={protocol!r}"
                if protocol == "grpc":
                    name, remedy = "otlp_proto_grpc", "opentelemetry-exporter-otlp-proto-grpc"
                break
    for point in entry_points(group="opentelemetry_traces_exporter", name=name):
        return point
    raise _NoExporterError(f"{wanted} needs {remedy} to be installed")


def _provider(exporter: EntryPoint, environ: Mapping[str, str], service: str) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    own = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    # The end is this runtime's to bring about: at the interpreter's exit it might take for ever.
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
    # What the exporter has to say belongs to the server's log.
    theirs, ours = logging.getLogger("opentelemetry"), logging.getLogger("omi_runtime")
    theirs.handlers, theirs.propagate = ours.handlers, False
    return provider


class Tracer:
    """Makes the spans of one process.

    Args:
        provider: of OpenTelemetry's SDK, with its exporter.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

        self._provider = provider
        self._tracer = provider.get_tracer("omi_runtime")
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._trace = trace

    def begin(self, request: RequestContext) -> None:
        """A request has come: its span is the parent of what follows, for the model too."""
        parent = self._propagator.extract({"traceparent": request.traceparent})
        request.span = span = self._tracer.start_span(
            f"{request.interface} {request.method}",
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "omi.interface": request.interface,
                "omi.method": request.method,
                "omi.request_id": request.id,
            },
        )
        context = span.get_span_context()
        request.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        )

    def end(self, request: RequestContext, model: str) -> None:
        """It has been answered."""
        span: Span | None = request.span
        if span is None:
            return
        span.set_attributes({"omi.code": request.code, "omi.model": model})
        if request.code in _SERVERS_FAULT:
            span.set_status(self._trace.StatusCode.ERROR, request.code)
        span.end()

    def traced(self, run: Run) -> Run:
        """The same function, with a span around it that the model's own spans are children of.

        It is the child of the first request in the batch, and has links to the others.
        """

        def traced_run(batch: Batch, wanted: Wanted) -> Result:
            spans = [request.span for request in WORKED_ON.get() if request.span is not None]
            first = self._trace.set_span_in_context(spans[0]) if spans else None
            links = [self._trace.Link(span.get_span_context()) for span in spans[1:]]
            with self._tracer.start_as_current_span("predict", context=first, links=links) as span:
                result = run(batch, wanted)
                span.set_attributes({"omi.items": result.n, "omi.failed": len(result.errors)})
                return result

        return traced_run

    def close(self) -> None:
        """Send what is left, for a moment at most: the collector may not be there."""
        # A thread, for the SDK waits as long as its exporter is patient.
        flush: Any = threading.Thread(target=self._provider.shutdown, daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)
