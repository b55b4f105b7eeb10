"""Exemplars: for buckets of the histograms a request that fell into it, with the trace that it is part of.

They are taken at a scrape from the newest records of decisions (`observe/decisions.py`): a request's way costs nothing for them.
A request without a trace id (W3C traceparent) is nobody's exemplar.
Format: https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from smartedge.admin.metrics import COARSE_BOUNDS_S
from smartedge.admin.readings import NONE, Labels, backend_labels, labels_text
from smartedge.balancer.cells import DURATION_BOUNDS_S
from smartedge.balancer.spec import DEFAULT_SERVICE

NEWEST: Final = 200
"""So many records of each worker are looked at: they cost 2 ms."""

MOST_LETTERS: Final = 128
"""Of names and values of an exemplar's labels together, says the specification."""

DURATIONS: Final = "smartedge_request_duration_seconds"
LATENCIES: Final = "smartedge_backend_latency_seconds"


ByLabels = dict[Labels, dict[int, str]]
"""By the labels of a series: for each bucket that has one, by its number, the text behind its count."""


class Exemplars:
    """What is shown of which bucket; made for one scrape out of records of decisions, the newest last."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._shown: dict[str, ByLabels] = {DURATIONS: {}, LATENCIES: {}}
        for record in records:
            if record.get("trace_id"):
                self._show(record)

    def of(self, metric: str) -> ByLabels:
        """Give those of a metric."""
        return self._shown.get(metric, {})

    def _show(self, record: Mapping[str, Any]) -> None:
        ids, at = _ids(record), record["at"]
        service, tries = record.get("service") or DEFAULT_SERVICE, record["tries"]
        answered = tries[-1]["backend"] if tries and record["error"] is None else None
        duration_s = record["duration_s"]
        self._add(DURATIONS, service, answered or NONE, DURATION_BOUNDS_S, duration_s, at + duration_s, ids)
        for one in tries:
            if one["backend"] is not None and one["latency_s"] is not None:
                latency_s = one["latency_s"]
                self._add(LATENCIES, service, one["backend"], COARSE_BOUNDS_S, latency_s, at + one["after_s"] + latency_s, ids)

    def _add(self, metric: str, service: str, backend: str, bounds: Sequence[float], value: float, at: float, ids: str) -> None:
        shown = self._shown[metric].setdefault(backend_labels(service, backend), {})
        shown[bisect_left(bounds, value)] = f" # {{{ids}}} {value:g} {at:.3f}"


NO_EXEMPLARS: Final = Exemplars(())


def _ids(record: Mapping[str, Any]) -> str:
    """Write the labels of an exemplar: the trace, and the request where there is room.

    A request id with quotes, which only a client of its own makes, is left out: there are readers that stumble over them.
    """
    names, values = ("trace_id", "request_id"), (record["trace_id"], record["request_id"])
    fits = sum(map(len, (*names, *values))) <= MOST_LETTERS and not set('"\\') & set(values[1])
    return labels_text(names, values) if fits else labels_text(names[:1], values[:1])
