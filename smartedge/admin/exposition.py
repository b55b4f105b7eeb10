"""The metrics as Prometheus reads them: a snapshot written as text, a piece at a time so that no request waits for the whole.

The client library chooses the format and writes its heads, and the metrics of the process. The lines of samples are written here,
for 1,000 backends have 70,000 of them, for which the library takes 0.8 s (bench/lumps.py). They are the same in both formats, but
for exemplars, which only OpenMetrics has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from smartedge.admin.exemplars import NO_EXEMPLARS, ByLabels, Exemplars
from smartedge.admin.metrics import TABLE
from smartedge.admin.readings import Buckets, Column, Labels, Sample, Samples, Snapshot, Summed

PIECE: Final = 50
"""Samples that are written at a stretch; of histograms, 0.5 ms."""

PROCESS: Final = CollectorRegistry()
"""What this worker takes from the system: process_cpu_seconds_total and its like."""
ProcessCollector(registry=PROCESS)

_BACKEND = "\0"
"""Where a backend's label goes in a template."""

GO_EXPONENT: Final = 1e6
"""From here on numbers that are not whole are written as Go does, which the library knows."""


class OneMetric(Collector):
    """A metric alone, to be encoded by the library; made for its head."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Give it."""
        return (self._metric,)


def content_type_of(accept: str) -> str:
    """Say which format fits an Accept field best."""
    return choose_encoder(accept)[1]


def has_exemplars(content_type: str) -> bool:
    """Whether a format is OpenMetrics."""
    return content_type.startswith("application/openmetrics-text")


def exposition(
    snapshot: Snapshot, accept: str = "", pause: Callable[[], None] = lambda: None, exemplars: Exemplars = NO_EXEMPLARS
) -> tuple[list[bytes], str]:
    """Return text, in pieces, and content type in the format that fits the Accept field best: Prometheus' or OpenMetrics'.

    pause: called between pieces. exemplars: are left out where the format has none.
    """
    encode, content_type = choose_encoder(accept)
    if not has_exemplars(content_type):
        exemplars = NO_EXEMPLARS
    series = [backend.labels for backend in snapshot.backends]
    pieces = []
    for line in TABLE:
        pause()
        pieces.append(encode(OneMetric(line.kind(line.name, line.help))).removesuffix(b"# EOF\n"))
        shown = exemplars.of(line.name)
        for piece in _in_batches(line.read(snapshot)):
            pieces.append(samples_text(line.name, piece, series, shown).encode())
            pause()
    pause()
    pieces.append(encode(PROCESS))
    pause()
    return pieces, content_type


def _in_batches(samples: Samples) -> Iterator[list[Sample]]:
    """Give so many samples as are written at a stretch; a column is as long as there are backends."""
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) >= PIECE or isinstance(sample, Column):
            yield batch
            batch = []
    if batch:
        yield batch


def samples_text(name: str, samples: Samples, series: Sequence[Labels], exemplars: ByLabels) -> str:
    """Write samples of a metric. series: the labels of all backends, for columns."""
    written = []
    for sample in samples:
        if isinstance(sample, Column):
            written.append(_column_text(name, sample, series))
            continue
        labels, value = sample
        if isinstance(value, Buckets):
            assert isinstance(labels, Labels)
            template = labels.backend.replace("%", "%%").join(_histogram(name, value.bounds, labels.service))
            text = template % (*value.cumulative, value.cumulative[-1], number(value.total))
            if exemplars and labels in exemplars:
                text = _with_exemplars(text, exemplars[labels])
            written.append(text)
        elif isinstance(value, Summed):
            written.append(f"{name}_count{{{labels}}} {number(value.number)}\n{name}_sum{{{labels}}} {number(value.total)}\n")
        else:
            written.append(f"{name}{{{labels}}} {number(value)}\n" if labels else f"{name} {number(value)}\n")
    return "".join(written)


def _column_text(name: str, column: Column, series: Sequence[Labels]) -> str:
    """Write one sample of every backend: by one `%`, which takes a third of the time of a line at a time."""
    if not series:
        return ""
    label = column.label
    if not label:
        heads = [f"{{{backend},{service}" for backend, service in series]
    elif label < "service":
        heads = [f"{{{backend},{label},{service}" for backend, service in series]
    else:
        heads = [f"{{{backend},{service},{label}" for backend, service in series]
    end = "} %d.0\n" if type(column.values[0]) is int else "} %s\n"
    template = name + f"{end}{name}".join(heads) + end
    if template.count("%") > len(heads):  # in labels
        template = name + f"{end}{name}".join([head.replace("%", "%%") for head in heads]) + end
    return template % tuple(column.values)


@lru_cache(256)
def _histogram(name: str, bounds: Sequence[float], service: str) -> Sequence[str]:
    """Make the lines of a service's histograms, with places for counts; a backend's label goes between the parts."""
    service = service.replace("%", "%%")
    texts = [f'{name}_bucket{{{_BACKEND},le="{number(bound)}",{service}}} %d.0\n' for bound in (*bounds, inf)]
    lines = "".join((*texts, f"{name}_count{{{_BACKEND},{service}}} %d.0\n", f"{name}_sum{{{_BACKEND},{service}}} %s\n"))
    return lines.split(_BACKEND)


def _with_exemplars(text: str, exemplars: Mapping[int, str]) -> str:
    lines = text.split("\n")
    for bucket, exemplar in exemplars.items():
        lines[bucket] += exemplar
    return "\n".join(lines)


def number(value: float) -> str:
    """Write a number as the library does."""
    return repr(float(value)) if 0 <= value < GO_EXPONENT else str(floatToGoString(value))  # type: ignore[no-untyped-call]
