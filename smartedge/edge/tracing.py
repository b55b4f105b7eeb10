"""What a configuration's `tracing` means for one worker: who takes part in traces, and where spans are sent."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random
from socket import gethostname
from time import monotonic
from uuid import uuid4

from smartedge import __version__
from smartedge.config.model import Config
from smartedge.config.otel import otel_headers
from smartedge.config.tracing import TracingConfig
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.policies import trusting
from smartedge.observe.span_sender import SpanSender
from smartedge.proxy.tracer import Tracer


class TracingBuilder:
    """Makes the Tracer and the SpanSender of each Setup of one worker; owned by its SetupBuilder."""

    def __init__(self, origin: ConfigOrigin) -> None:
        self._origin = origin
        self._rng = Random()
        self._worker: dict[str, str] | None = None

    def join_workers(self, slot: int) -> None:
        """Send from here on, as the worker of this slot: in a process of its own, which a fork would not have had."""
        self._rng.seed()
        self._worker = {"service.instance.id": str(uuid4()), "host.name": gethostname(), "smartedge.slot": str(slot)}

    def make_tracer(self, config: Config, sender: SpanSender | None) -> Tracer | None:
        """Make what takes part in traces; None where nobody does. sender: of the spans that are to be kept."""
        said = config.tracing
        if said is None:
            return None
        networks = (*config.trusted_proxies, *said.trusted)
        return Tracer(
            said.sample_ratio,
            self._rng,
            monotonic,
            records=sender is not None,
            is_trusted=trusting([ip_network(network) for network in networks]),
            others_per_s=said.others_per_s,
        )

    def make_sender(self, config: Config, before: tuple[TracingConfig | None, SpanSender | None]) -> SpanSender | None:
        """Make what sends spans; None where there is no collector, or no worker yet. before: goes on if it is still right."""
        said = config.tracing
        if said is None or said.traces_url is None or self._worker is None:
            return None
        said_before, sender = before
        if sender is not None and said_before is not None and _what_is_sent(said_before) == _what_is_sent(said):
            return sender
        try:
            from smartedge.observe.otlp import OtlpCollector, make_resource  # late: its memory is for who sends spans only
        except ImportError as error:
            raise self._origin.unusable(("tracing", "otlp"), f"OpenTelemetry can't be used: {error}") from error

        defaults = {"service.name": "smartedge", "service.version": __version__, **self._worker}
        named = {} if said.service_name is None else {"service.name": said.service_name}
        cert = said.cert_file if said.cert_file is None or said.key_file is None else (said.cert_file, said.key_file)
        collector = OtlpCollector(
            said.traces_url,
            make_resource(defaults, {**dict(said.attributes), **named}),
            __version__,
            headers={**otel_headers(self._origin.env), **dict(said.headers)},
            timeout_s=said.timeout_s,
            compress=said.compression == "gzip",
            verify=said.ca_file or True,
            cert=cert,
        )
        return SpanSender(said.traces_url, collector.post, said.queue)


def _what_is_sent(said: TracingConfig) -> TracingConfig:
    """Give what the sender goes by, and nothing else."""
    return said.model_copy(update={"sample_ratio": 1.0, "trusted": (), "others_per_s": 0})
