"""A real Prometheus scrapes a live edge under load with failures: every expression of dashboards and rules must give data."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.live.edges import LiveEdge, on_our_own_server
from tests.live.peers import Script, answers
from tests.live.processes import ROOT, ask, free_port, running, wait_until

DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
RULES = ROOT / "deploy" / "prometheus"

TRACE = "0af7651916cd43dd8448eb211c80319c"
"""The trace that all requests of the load are part of."""


def expressions() -> Iterator[tuple[str, str]]:
    """What the dashboards ask, by where it stands."""
    for path in DASHBOARDS:
        document = json.loads(path.read_text())
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                if not any(
                    name in target["expr"] for name in ("smartedge_cluster_", "smartedge_discovery_")
                ):  # there are none here
                    yield f"{path.stem}: {panel['title']} {target['legendFormat']}", target["expr"]


def filled_in(expression: str) -> str:
    """An expression with Grafana's variables replaced, as for "all"."""
    text = expression.replace("$__rate_interval", "10s").replace("$__interval", "10s")
    return re.sub(r"\$(job|instance|service|backend)", ".*", text)


@contextmanager
def prometheus(tmp_path: Path, edge: LiveEdge) -> Iterator[str]:
    """A Prometheus that asks this edge four times a second, started as `make run-prometheus` does; gives its URL."""
    port = free_port()
    config = tmp_path / "prometheus.yml"
    text = (RULES / "prometheus.yml").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{edge.port}").replace("5s", "250ms")
    config.write_text(re.sub(r"- (\w+\.yml)", lambda found: f"- {RULES / found[1]}", text))
    command = [sys.executable, "deploy/prometheus/run.py", "--listen", f"127.0.0.1:{port}", "--config", str(config)]
    with running(command, cwd=ROOT):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: ask(f"{url}/-/ready").status == 200, 20, "Prometheus")
        yield url


def result_of(url: str, expression: str) -> list[Any]:
    answer = ask(f"{url}/api/v1/query?query={quote(expression, safe='')}").json()
    assert answer["status"] == "success", (expression, answer)
    found: list[Any] = answer["data"]["result"]
    return found


def traces_of(url: str, metric: str) -> set[str]:
    """The traces of the exemplars that Prometheus has kept of a metric in the last minute."""
    now = time.time()
    answer = ask(f"{url}/api/v1/query_exemplars?query={metric}&start={now - 60}&end={now}").json()
    assert answer["status"] == "success", answer
    return {exemplar["labels"]["trace_id"] for series in answer["data"] for exemplar in series["exemplars"]}


SETTINGS: dict[str, Any] = {
    "retry": {"attempts": 1, "statuses": []},
    "limits": {"in_flight_per_backend": 50},
    "explain": {"sample_ratio": 1.0},
}
"""So that there are failures, caps and requests that are recorded."""


@on_our_own_server
def test_every_expression_gives_data_from_a_live_edge(edge: LiveEdge, tmp_path: Path) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            edge.ask(headers=b"traceparent: 00-%b-b7ad6b7169203331-01\r\n" % TRACE.encode())

    with Script(answers()) as well, Script(answers(500)) as ill:
        edge.configure({"id": "well", "url": well}, {"id": "ill", "url": ill}, **SETTINGS)
        thread = threading.Thread(target=load)
        with prometheus(tmp_path, edge) as url:
            thread.start()
            try:
                errors = 'sum(rate(smartedge_requests_total{code="500"}[10s])) > 0'
                wait_until(lambda: result_of(url, errors), 20, "a failure that Prometheus knows of")
                asked = list(expressions())
                assert len(asked) > 50

                def without_data() -> list[str]:
                    return [where for where, expression in asked if not result_of(url, filled_in(expression))]

                wait_until(lambda: not without_data(), 20, f"data for all: {without_data()}")
                recorded = re.findall(r"- record: (\S+)", (RULES / "rules.yml").read_text())
                wait_until(lambda: all(result_of(url, name) for name in recorded), 20, "the recording rules")
                for metric in ("smartedge_request_duration_seconds_bucket", "smartedge_backend_latency_seconds_bucket"):
                    wait_until(lambda metric=metric: TRACE in traces_of(url, metric), 20, f"an exemplar of {metric}")
                rules = ask(f"{url}/api/v1/rules").json()["data"]["groups"]
                assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}
            finally:
                stop.set()
                thread.join()
