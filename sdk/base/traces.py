"""Spans of OpenTelemetry around a command, a run and its stages, for whoever collects them; else nothing is loaded.

A program that has a provider of its own gets them as children of its current span. Commands send them where the
variables ``OTEL_*`` say, and go on with the trace that a scheduler names in ``TRACEPARENT``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sdk.base import __version__
from sdk.base.errors import MarqueeError, how_to_get

log = logging.getLogger(__name__)
_API = "opentelemetry.trace"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@contextmanager
def span(name: str, **values: Any) -> Iterator[None]:
    """A span around what is done; an error ends it with its status: our own errors' message, of others the type alone.

    Args:
        name: of the span.
        values: its attributes, as ``note`` takes them.
    """
    api: Any = sys.modules.get(_API)  # who collects spans has loaded it
    if api is None:
        yield
        return
    quiet = {"record_exception": False, "set_status_on_exception": False}  # tracebacks may hold what is secret
    with api.get_tracer("marquee", __version__).start_as_current_span(name, attributes=_named(values), **quiet) as it:
        try:
            yield
        except BaseException as error:
            kind = type(error).__name__
            it.set_attribute("error.type", kind)
            it.set_status(api.StatusCode.ERROR, str(error) if isinstance(error, MarqueeError) else kind)
            raise


def note(**values: Any) -> None:
    """Attributes ``marquee.name`` of the span that the work is in; None is left out."""
    api: Any = sys.modules.get(_API)
    if api is not None:
        api.get_current_span().set_attributes(_named(values))


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"marquee.{name}": value for name, value in values.items() if value is not None}


@contextmanager
def collected(environ: Mapping[str, str]) -> Iterator[None]:
    """Send the spans of a command where its environment says, until it ends; nowhere unless it says so.

    A collector that does not answer, or a package that is missing, is a warning: no work is lost for it.

    Args:
        environ: the variables; ``OTEL_TRACES_EXPORTER`` or an OTLP endpoint turns it on.
    """
    provider = _provider(environ)
    if _API not in sys.modules:
        yield
        return
    from opentelemetry import context, propagate, trace

    inside = trace.get_current_span().get_span_context().is_valid  # of a program that runs the command itself
    carried = {} if inside else {name.lower(): environ[name] for name in _CARRIED if name in environ}
    token = context.attach(propagate.extract(carried, context.get_current()))
    try:
        yield
    finally:
        context.detach(token)
        if provider is not None:
            provider.shutdown()


_CARRIED = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")


def _provider(environ: Mapping[str, str]) -> Any:
    """A provider with the exporters that the variables name; None where they name none, or one is there already."""
    asked = environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if any(map(environ.get, _ENDPOINTS)) else "none")
    if asked == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = next(filter(None, map(environ.get, _PROTOCOLS)), "http").partition("/")[0]
    names = [f"otlp_proto_{protocol}" if name.strip() == "otlp" else name.strip() for name in asked.split(",")]
    try:
        from importlib.metadata import entry_points

        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return None
        provider = TracerProvider(shutdown_on_exit=False)
        for name in names:
            exporter = entry_points(group="opentelemetry_traces_exporter")[name].load()
            provider.add_span_processor(BatchSpanProcessor(exporter()))
    except Exception as error:  # whatever a variable or an exporter is like, the work is done
        lacking = ", ".join(names) if isinstance(error, KeyError) else getattr(error, "name", None)
        problem = f"{lacking} not installed; {how_to_get('otel')}" if lacking else error
        log.warning("OTEL_*: no spans are sent: %s", problem)
        return None
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # each try that fails is a warning
    trace.set_tracer_provider(provider)
    return provider
