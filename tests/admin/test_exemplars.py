from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from smartedge.admin.exemplars import Exemplars
from smartedge.admin.exposition import exposition
from smartedge.admin.readings import BackendReading, Snapshot, WorkerReading, backend_labels
from smartedge.balancer.cells import latency_cell
from smartedge.balancer.learned import Learned

TRACE = "0af7651916cd43dd8448eb211c80319c"
Found = dict[tuple[str, str, str], tuple[dict[str, str], float, float]]


def one_try(backend: str | None = "b1", latency_s: float | None = 0.03, after_s: float = 0.0) -> dict[str, object]:
    return {"backend": backend, "latency_s": latency_s, "after_s": after_s}


def record(**more: object) -> dict[str, object]:
    """A request that took 40 ms, as it is kept in the ring."""
    usual = {"request_id": "r-1", "trace_id": TRACE, "at": 1.75e9, "duration_s": 0.04, "error": None, "tries": [one_try()]}
    return usual | more


def shown(*records: dict[str, object], accept: str = "application/openmetrics-text;version=1.0.0") -> Found:
    """The exemplars that an edge with one backend, b1, shows of these: by metric, backend and bound."""
    learned, own = Learned(), Learned()
    for row in (learned, own):
        row.count(200, 0.04, 0, 0)
    learned.add(latency_cell(0.03))
    backend = BackendReading(
        backend_labels("default", "b1"), "default", 1, 0.0, True, "enabled", "closed", None, learned.totals(), ()
    )
    snapshot = Snapshot([backend], [], own.totals(), 1, [WorkerReading(0, True, 1, 1.75e9, 0.0)], "0.1.0")
    text = b"".join(exposition(snapshot, accept, exemplars=Exemplars(records))[0]).decode()
    if not accept:
        assert "#" not in text.replace("# HELP", "").replace("# TYPE", "")
        return {}
    return {
        (family.name, sample.labels["backend"], sample.labels["le"]): (
            sample.exemplar.labels,
            sample.exemplar.value,
            float(sample.exemplar.timestamp),
        )
        for family in openmetrics(text)
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_a_request_stands_in_the_bucket_that_it_fell_into_with_its_trace() -> None:
    ids = {"trace_id": TRACE, "request_id": "r-1"}
    assert shown(record()) == {
        ("smartedge_request_duration_seconds", "b1", "0.05"): (ids, 0.04, 1.75e9 + 0.04),
        ("smartedge_backend_latency_seconds", "b1", "0.0512"): (ids, 0.03, 1.75e9 + 0.03),
    }


def test_the_newest_of_a_bucket_is_shown() -> None:
    found = shown(record(request_id="old"), record(request_id="new", duration_s=0.03))
    assert {labels["request_id"] for labels, _, _ in found.values()} == {"new"}


def test_requests_without_a_trace_have_none_and_the_other_format_has_none_either() -> None:
    assert shown(record(trace_id=None)) == {}
    without = record()
    del without["trace_id"]  # of a version before
    assert shown(without) == {}
    assert shown(record(), accept="") == {}


def test_what_no_backend_answered_stands_with_what_the_edge_answered_itself() -> None:
    found = shown(record(error="no backend", service="none"))
    assert ("smartedge_request_duration_seconds", "none", "0.05") in found


def test_each_try_has_its_own_latency() -> None:
    found = shown(record(tries=[one_try("gone", 0.0001), one_try(None, None), one_try("b1", 0.02, after_s=0.01)]))
    assert [value for (metric, _, _), (_, value, _) in found.items() if "latency" in metric] == [0.02]


@pytest.mark.parametrize(("request_id", "has_room"), [("x" * 78, True), ("x" * 79, False)])
def test_an_exemplar_is_never_longer_than_the_format_allows(request_id: str, has_room: bool) -> None:
    """The parser refuses more than 128 characters."""
    for labels, _, _ in shown(record(request_id=request_id)).values():
        assert labels == {"trace_id": TRACE} | ({"request_id": request_id} if has_room else {})


@pytest.mark.parametrize("request_id", ['a"b', "a\\b"])
def test_a_request_id_with_quotes_breaks_nothing(request_id: str) -> None:
    assert [labels for labels, _, _ in shown(record(request_id=request_id)).values()] == [{"trace_id": TRACE}] * 2
