"""The metrics as Prometheus reads them: a snapshot written as text, a piece at a time so that no request waits for the whole.

The client library chooses the format and writes its heads, and the metrics of the process. The lines of samples are the same in
both formats; they are written here because 4,000 backends have 264,000 of them: 0.7 s of CPU here, 3.3 s there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from smartedge.admin.metrics import TABLE, Line
from smartedge.admin.readings import Buckets, Snapshot, Summed

PIECE_LINES: Final = 2_000
"""Lines that are written at a stretch, some 4 ms."""

GO_EXPONENT: Final = 1e6
"""From here on numbers are written as Go does, which the library knows."""

PROCESS: Final = CollectorRegistry()
"""What this worker takes from the system: process_cpu_seconds_total and its like."""
ProcessCollector(registry=PROCESS)


class OneMetric(Collector):
    """A metric alone, to be encoded by the library; made for its head."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Give it."""
        return (self._metric,)


def exposition(snapshot: Snapshot, accept: str = "", pause: Callable[[], None] = lambda: None) -> tuple[bytes, str]:
    """Return text and content type in the format that fits the Accept field best: Prometheus' or OpenMetrics'.

    pause: called between pieces.
    """
    encode, content_type = choose_encoder(accept)
    pieces = []
    for line in TABLE:
        pieces.append(encode(OneMetric(line.kind(line.name, line.help))).removesuffix(b"# EOF\n"))
        lines = sample_lines(line, snapshot)
        while piece := "".join(islice(lines, PIECE_LINES)):
            pieces.append(piece.encode())
            pause()
    pieces.append(encode(PROCESS))
    return b"".join(pieces), content_type


def sample_lines(line: Line, snapshot: Snapshot) -> Iterator[str]:
    """Write every sample of a metric; labels are in the order of their names, as the library has them."""
    order = sorted(range(len(line.labels)), key=line.labels.__getitem__)
    below = [place for place in order if line.labels[place] < "le"]
    above = order[len(below) :]
    for values, value in line.read(snapshot):
        if isinstance(value, Summed):
            labels = _braces(_labels(line.labels, values, order))
            yield f"{line.name}_count{labels} {number(value.number)}\n{line.name}_sum{labels} {number(value.total)}\n"
            continue
        if not isinstance(value, Buckets):
            yield f"{line.name}{_braces(_labels(line.labels, values, order))} {number(value)}\n"
            continue
        before = "".join(f"{label}," for label in _labels(line.labels, values, below))
        after = "".join(f",{label}" for label in _labels(line.labels, values, above))
        for bound, count in zip((*value.bounds, float("inf")), value.cumulative, strict=True):
            yield f'{line.name}_bucket{{{before}le="{number(bound)}"{after}}} {number(count)}\n'
        labels = _braces(_labels(line.labels, values, order))
        yield f"{line.name}_count{labels} {number(value.cumulative[-1])}\n"
        yield f"{line.name}_sum{labels} {number(value.total)}\n"


def number(value: float) -> str:
    """Write a number as Go does."""
    return repr(float(value)) if 0 <= value < GO_EXPONENT else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _labels(names: Sequence[str], values: Sequence[str], order: Iterable[int]) -> list[str]:
    return [f'{names[place]}="{_escaped(values[place])}"' for place in order]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braces(labels: Sequence[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""
