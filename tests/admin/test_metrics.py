from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from http import HTTPStatus

import pytest
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from smartedge.admin.exemplars import NO_EXEMPLARS, Exemplars
from smartedge.admin.exposition import exposition, number
from smartedge.admin.metrics import TABLE
from smartedge.admin.readings import (
    BackendReading,
    ServiceReading,
    Snapshot,
    SourceReading,
    WorkerReading,
    backend_labels,
    codes_of,
)
from smartedge.balancer.cells import (
    CONNECT_SUM,
    CONNECTS,
    EJECTED,
    FAILED,
    FAILED_CONNECT,
    HANDSHAKES,
    HANDSHAKES_FAILED,
    HANDSHAKES_RESUMED,
    HEDGES,
    HEDGES_WON,
    IN_FLIGHT,
    LATENCY_BOUNDS_S,
    LATENCY_SUM,
    QUEUE_REFUSED,
    QUEUE_WAIT_SUM,
    QUEUE_WAITS,
    QUEUED,
    RATE_LIMITED,
    RETRIES,
    SPANS_LOST,
    SPANS_SENT,
    TUNNELS,
    latency_cell,
)
from smartedge.balancer.learned import Learned

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


def reading(id_: str = "b1", learned: Learned | None = None, **more: object) -> BackendReading:
    fields = {
        "service": "default",
        "weight": 1,
        "ewma_s": 0.0,
        "healthy": True,
        "state": "enabled",
        "breaker": "closed",
        "last_probe_at": None,
    } | more
    labels = backend_labels(str(fields["service"]), id_)
    cells = (learned or Learned()).totals()
    return BackendReading(labels=labels, cells=cells, codes=codes_of(cells), **fields)  # type: ignore[arg-type]


def edge_of(*backends: BackendReading, own: Learned | None = None, waits: Learned | None = None) -> Snapshot:
    services = [ServiceReading("default", waits.totals())] if waits is not None else []
    workers = [WorkerReading(0, True, 17, 1.75e9, 0.002), WorkerReading(3, False, 16, 1.76e9, 0.25, 50_000_000, 12.5)]
    return Snapshot(backends, services, (own or Learned()).totals(), generation=17, workers=workers, version="0.1.0")


def busy_edge() -> Snapshot:
    served, own, waits = Learned(), Learned(), Learned()
    for code, duration_s in ((200, 0.004), (200, 0.005), (200, 0.3), (404, 20.0), (799, 0.1)):
        served.count(code, duration_s, bytes_in=10, bytes_out=100)
    for latency_s in (0.00005, 0.0001, 0.00011, 0.0002, 60.0, 100.0):
        served.add(latency_cell(latency_s))
    served.reals[LATENCY_SUM] = 160.00046
    for cell, amount in (
        (IN_FLIGHT, 3),
        (FAILED, 2),
        (FAILED_CONNECT, 1),
        (RETRIES, 4),
        (CONNECTS, 5),
        (TUNNELS, 2),
        (EJECTED, 6),
        (HEDGES, 8),
        (HEDGES_WON, 7),
    ):
        served.add(cell, amount)
    served.reals[CONNECT_SUM] = 0.0125
    for cell, amount in ((QUEUED, 9), (QUEUE_REFUSED, 10), (RATE_LIMITED, 11), (QUEUE_WAITS, 4)):
        waits.add(cell, amount)
    waits.reals[QUEUE_WAIT_SUM] = 1.5
    for cell, amount in ((HANDSHAKES, 5), (HANDSHAKES_RESUMED, 3), (HANDSHAKES_FAILED, 1), (SPANS_SENT, 9), (SPANS_LOST, 4)):
        own.add(cell, amount)
    own.count(503, 0.001, bytes_in=1, bytes_out=50)
    return edge_of(
        reading("b1", served, weight=2, ewma_s=0.025, breaker="open", last_probe_at=1.5e9, max_in_flight=12),
        reading("b2", healthy=False, state="draining"),
        own=own,
        waits=waits,
    )


def text_of(snapshot: Snapshot, accept: str = "", exemplars: Exemplars = NO_EXEMPLARS) -> str:
    return b"".join(exposition(snapshot, accept, exemplars=exemplars)[0]).decode()


def scraped(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    families = text_string_to_metric_families(text_of(snapshot))
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, *values_of(sample.labels)): sample.value for sample in samples}


def values_of(labels: dict[str, str]) -> list[str]:
    """Service and backend in one, as people write it, and what other labels there are."""
    place = ["/".join(labels[name] for name in ("service", "backend") if name in labels)] if "service" in labels else []
    return place + [labels[name] for name in sorted(labels) if name not in ("service", "backend")]


def test_requests_are_counted_by_backend_and_code_and_add_up_to_all_answers() -> None:
    found = scraped(busy_edge())
    requests = {labels[1:]: value for labels, value in found.items() if labels[0] == "smartedge_requests_total"}
    assert requests == {
        ("default/b1", "200"): 3,
        ("default/b1", "404"): 1,
        ("default/b1", "5xx"): 1,
        ("none/none", "503"): 1,
    }


def test_a_histogram_of_durations_is_cumulative_and_complete() -> None:
    found = scraped(busy_edge())
    buckets = {
        labels[2]: value
        for labels, value in found.items()
        if labels[:2] == ("smartedge_request_duration_seconds_bucket", "default/b1")
    }
    assert len(buckets) == 15
    assert (buckets["0.005"], buckets["0.075"], buckets["0.1"], buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (
        2,
        2,
        3,
        4,
        4,
        5,
    )
    assert found["smartedge_request_duration_seconds_count", "default/b1"] == 5
    assert found["smartedge_request_duration_seconds_sum", "default/b1"] == pytest.approx(20.409)
    assert found["smartedge_request_duration_seconds_count", "none/none"] == 1


def test_a_coarse_latency_bucket_holds_all_the_fine_ones_below_its_bound() -> None:
    found = scraped(busy_edge())
    buckets = {
        labels[2]: value
        for labels, value in found.items()
        if labels[:2] == ("smartedge_backend_latency_seconds_bucket", "default/b1")
    }
    assert len(buckets) == 21
    assert [buckets[bound] for bound in ("0.0001", "0.0002", "0.0004", "+Inf")] == [2, 4, 4, 6]
    assert all(float(bound) in (*LATENCY_BOUNDS_S, float("inf")) for bound in buckets)
    assert found["smartedge_backend_latency_seconds_count", "default/b1"] == 6
    assert found["smartedge_backend_latency_seconds_sum", "default/b1"] == pytest.approx(160.00046)


@pytest.mark.parametrize(
    ("sample", "value"),
    [
        (("smartedge_received_bytes_total", "default/b1"), 50),
        (("smartedge_received_bytes_total", "none/none"), 1),
        (("smartedge_sent_bytes_total", "default/b1"), 500),
        (("smartedge_sent_bytes_total", "none/none"), 50),
        (("smartedge_retries_total", "default/b1"), 4),
        (("smartedge_backend_up", "default/b1"), 1),
        (("smartedge_backend_up", "default/b2"), 0),
        (("smartedge_backend_in_flight", "default/b1"), 3),
        (("smartedge_backend_max_in_flight", "default/b1"), 12),
        (("smartedge_hedges_total", "default/b1"), 8),
        (("smartedge_hedges_won_total", "default/b1"), 7),
        (("smartedge_queued_requests", "default"), 9),
        (("smartedge_queue_refused_total", "default"), 10),
        (("smartedge_rate_limited_total", "default"), 11),
        (("smartedge_backend_failures_total", "default/b1", "connect"), 1),
        (("smartedge_backend_failures_total", "default/b1", "status"), 0),
        (("smartedge_backend_failures_total", "default/b1", "other"), 1),
        (("smartedge_backend_connect_seconds_count", "default/b1"), 5),
        (("smartedge_backend_connect_seconds_sum", "default/b1"), 0.0125),
        (("smartedge_queue_wait_seconds_count", "default"), 4),
        (("smartedge_queue_wait_seconds_sum", "default"), 1.5),
        (("smartedge_tls_handshakes_total", "full"), 2),
        (("smartedge_tls_handshakes_total", "resumed"), 3),
        (("smartedge_tls_handshakes_total", "failed"), 1),
        (("smartedge_spans_total", "sent"), 9),
        (("smartedge_spans_total", "lost"), 4),
        (("smartedge_backend_ejections_total", "default/b1"), 6),
        (("smartedge_backend_observed_ejections_total", "default/b1"), 0),
        (("smartedge_backend_open_tunnels", "default/b1"), 2),
        (("smartedge_tunnels_total", "default/b1"), 0),
        (("smartedge_backend_connections_total", "default/b1"), 5),
        (("smartedge_backend_ewma_seconds", "default/b1"), 0.025),
        (("smartedge_backend_weight", "default/b1"), 2),
        (("smartedge_backend_breaker_state", "default/b1", "open"), 1),
        (("smartedge_backend_breaker_state", "default/b1", "closed"), 0),
        (("smartedge_backend_breaker_state", "default/b2", "closed"), 1),
        (("smartedge_backend_breaker_state", "default/b2", "half_open"), 0),
        (("smartedge_backend_state", "default/b1", "enabled"), 1),
        (("smartedge_backend_state", "default/b2", "enabled"), 0),
        (("smartedge_backend_state", "default/b2", "draining"), 1),
        (("smartedge_last_probe_timestamp_seconds", "default/b1"), 1.5e9),
        (("smartedge_generation",), 17),
        (("smartedge_workers",), 2),
        (("smartedge_worker_leads", "0"), 1),
        (("smartedge_worker_leads", "3"), 0),
        (("smartedge_worker_generation", "0"), 17),
        (("smartedge_worker_generation", "3"), 16),
        (("smartedge_worker_loop_lag_seconds", "3"), 0.25),
        (("smartedge_worker_start_time_seconds", "3"), 1.76e9),
        (("smartedge_worker_cpu_seconds_total", "3"), 12.5),
        (("smartedge_worker_resident_memory_bytes", "3"), 50_000_000),
        (("smartedge_service_in_flight", "default"), 3),
        (("smartedge_start_time_seconds",), 1.75e9),
    ],
)
def test_every_number_of_the_edge_is_there(sample: tuple[str, ...], value: float) -> None:
    assert busy_scrape()[sample] == value


@cache
def busy_scrape() -> dict[tuple[str, ...], float]:
    return scraped(busy_edge())


def test_the_build_and_the_process_are_there() -> None:
    text = text_of(edge_of())
    assert 'smartedge_build_info{python="3.' in text.replace('{version="0.1.0",python', "{python")
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{name} " in text


def test_a_worker_of_which_the_system_says_nothing_has_no_such_series() -> None:
    found = scraped(busy_edge())
    assert ("smartedge_worker_cpu_seconds_total", "0") not in found
    assert ("smartedge_worker_resident_memory_bytes", "0") not in found


def test_a_backend_that_was_never_probed_has_no_time_of_its_last_probe() -> None:
    assert ("smartedge_last_probe_timestamp_seconds", "default/b2") not in scraped(busy_edge())


class Again(Collector):
    """What has been read, to be written by the client library."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_the_text_is_that_of_the_client_library(accept: str) -> None:
    """What its parser reads, its writer writes the same, byte by byte."""
    text = text_of(busy_edge(), accept)
    families = (openmetrics if accept else text_string_to_metric_families)(text)
    assert text == choose_encoder(accept)[0](Again(list(families))).decode()


def test_every_sample_has_the_labels_of_its_line_and_strict_parsers_take_it() -> None:
    """The client library's parser of OpenMetrics refuses whatever its specification does not allow."""
    snapshot = busy_edge()
    text = text_of(snapshot, OPEN_METRICS)
    lines = {line.name.removesuffix("_total"): line for line in TABLE}
    families = [family for family in openmetrics(text) if family.name.startswith("smartedge_")]
    assert {family.name for family in families} == lines.keys()
    for family in families:
        for sample in family.samples:
            assert tuple(label for label in sample.labels if label != "le") == tuple(sorted(lines[family.name].labels)), sample
    samples = [sample for family in families for sample in family.samples]
    by_text = {(sample.name, *values_of(sample.labels)): sample.value for sample in samples}
    assert by_text == {key: value for key, value in scraped(snapshot).items() if key[0].startswith("smartedge_")}


@pytest.mark.parametrize("value", [0.0, 1, 3.5, 999_999.0, 1e6, 1.75e9, 1e16, 1e-7, -2.0, float("inf")])
def test_numbers_are_written_as_the_client_library_writes_them(value: float) -> None:
    assert number(value) == floatToGoString(value)


def test_many_backends_are_written_in_pieces_between_which_others_go_on() -> None:
    pauses: list[int] = []
    for count in (1, 200):
        pauses.append(0)

        def pause() -> None:
            pauses[-1] += 1

        exposition(edge_of(*(reading(f"b{number}") for number in range(count))), "", pause)
    assert pauses[1] >= pauses[0] + 3


def test_every_status_code_can_be_counted_and_shown() -> None:
    learned = Learned()
    for status in HTTPStatus:
        learned.count(status, 0.0, 0, 0)
    assert sum(
        value for labels, value in scraped(edge_of(reading("b1", learned))).items() if labels[0] == "smartedge_requests_total"
    ) == len(HTTPStatus)


def test_the_same_backend_in_two_services_has_its_own_series_in_each() -> None:
    web, api = Learned(), Learned()
    web.count(200, 0.1, 0, 0)
    api.count(503, 0.1, 0, 0)
    found = scraped(edge_of(reading("b1", web), reading("b1", api, healthy=False, service="api")))
    assert found["smartedge_requests_total", "default/b1", "200"] == found["smartedge_requests_total", "api/b1", "503"] == 1
    assert (found["smartedge_backend_up", "default/b1"], found["smartedge_backend_up", "api/b1"]) == (1, 0)


def test_a_backend_may_have_any_id() -> None:
    text = text_of(edge_of(reading('quo"te\\back\nline 100% {}\0')))
    assert 'smartedge_backend_up{backend="quo\\"te\\\\back\\nline 100% {}\ufffd",service="default"} 1.0\n' in text
    assert (
        'smartedge_backend_latency_seconds_count{backend="quo\\"te\\\\back\\nline 100% {}\ufffd",service="default"} 0.0\n' in text
    )


def test_the_table_names_nothing_twice_and_keeps_out_of_the_global_registry() -> None:
    assert len({line.name for line in TABLE}) == len(TABLE)
    exposition(edge_of())
    assert not any(name.startswith("smartedge") for name in REGISTRY._names_to_collectors)


def test_the_help_of_a_metric_is_plain_text() -> None:
    """Links and backticks of the page about metrics were in what Prometheus and Grafana show."""
    assert [line.name for line in TABLE if any(mark in line.help for mark in "[]`*")] == []


@pytest.mark.parametrize(
    ("accept", "content_type", "last"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", b"\n"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", b"\n"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0",
            b"# EOF\n",
        ),
    ],
)
def test_prometheus_gets_the_format_it_asks_for(accept: str, content_type: str, last: bytes) -> None:
    pieces, found = exposition(busy_edge(), accept)
    assert found.startswith(content_type)
    assert pieces[-1].endswith(last)


def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is missing: apt-get install prometheus"
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    text = text_of(busy_edge()).encode()
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_each_source_of_discovery_has_its_age_its_errors_and_its_backends() -> None:
    sources = [SourceReading("web", "dns", 12.5, 3, 2), SourceReading("api", "etcd", float("inf"), 7, 0)]
    text = text_of(replace(edge_of(reading()), sources=sources))

    for line in (
        'smartedge_discovery_age_seconds{service="web",source="dns"} 12.5',
        'smartedge_discovery_age_seconds{service="api",source="etcd"} +Inf',
        'smartedge_discovery_errors_total{service="api",source="etcd"} 7',
        'smartedge_discovery_backends{service="web",source="dns"} 2',
    ):
        assert line in text.splitlines() or f"{line}.0" in text.splitlines()


def test_codes_are_those_that_were_answered() -> None:
    learned = Learned()
    for status in (200, 200, 404, 503):
        learned.count(status, 0.01, 0, 0)
    assert sorted(codes_of(learned.totals())) == [('code="200"', 2), ('code="404"', 1), ('code="503"', 1)]
    assert list(codes_of(Learned().totals())) == []
