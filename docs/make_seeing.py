"""Lives through the incident of docs/seeing.md, and writes that page with what was seen: python docs/make_seeing.py

Starts three example backends, an edge of two workers, clients, and Prometheus with deploy/prometheus; has one backend fail a
third of its requests; follows the alert to the reason as somebody would who was woken by it, and puts an end to it. What commands
and pages showed is put into the text below, pictures into docs/img/seeing-*.png. Needs Debian's prometheus, chromium and
chromium-driver, and Selenium (requirements-dev.txt). Takes four minutes.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from smartedge.admin.readings import labels_text  # noqa: E402
from tests.live.browser import Browser, running_browser  # noqa: E402
from tests.live.processes import free_port  # noqa: E402

PAGE = ROOT / "docs" / "seeing.md"
PICTURES = ROOT / "docs" / "img"
CLIENTS, BEFORE_S, AFTER_S = 6, 45, 15
FAILING, RATIO = "shop-2", 0.3
ALERT = "SmartEdgeErrorBudgetBurnsFast"
BY_BACKEND = 'sum by (backend, code) (rate(smartedge_requests_total{service="shop",code=~"5.."}[1m]))'
WIDE = (1360, 860)
WITHOUT_PATHS = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(arguments[0], "");
"""


class Site:
    """What runs: backends, edge and Prometheus; owned by `main`."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.ports = {f"shop-{number}": free_port() for number in (1, 2, 3)}
        for name, port in self.ports.items():
            self._run("server1.py", "--port", str(port), "--host", "127.0.0.1", "--name", name, "--delay", "0.02")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.config = directory / "backends.json"
        backends = [{"id": name, "url": f"http://127.0.0.1:{at}"} for name, at in self.ports.items()]
        written = {
            "services": {"shop": {"backends": backends, "strategy": "round_robin", "breaker": {"observe": True}}},
            "routes": [{"to": "shop"}],
            "workers": 2,
        }
        self.config.write_text(json.dumps(written | {"tracing": True, "explain": {"sample_ratio": 0.05}}))
        self._run("-m", "smartedge", "run", "--config", str(self.config), "--bind", f"127.0.0.1:{port}")
        rules = ROOT / "deploy" / "prometheus"
        text = (rules / "prometheus.yml").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        (directory / "prometheus.yml").write_text(re.sub(r"- (\w+\.yml)", lambda found: f"- {rules / found[1]}", text))
        at = free_port()
        self.prometheus = f"http://127.0.0.1:{at}"
        self._run(str(rules / "run.py"), "--listen", f"127.0.0.1:{at}", "--config", str(directory / "prometheus.yml"))
        wait(lambda: ask(f"{self.url}/health")["up"] == 3, "three backends that are up")

    def _run(self, *arguments: str) -> None:
        process = self._stack.enter_context(
            subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        self._stack.callback(process.terminate)

    def command(self, *arguments: str) -> str:
        """Run a command of smartedge against the edge; what it printed."""
        command = [sys.executable, "-m", "smartedge", *arguments, "--url", self.url]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout.rstrip()

    def query(self, expression: str) -> list[Any]:
        """Ask Prometheus."""
        found: list[Any] = ask(f"{self.prometheus}/api/v1/query?{urlencode({'query': expression})}")["data"]["result"]
        return found

    def be_a_client(self) -> None:
        """Look around, and order something now and then; each request is part of a trace of its own."""
        client = HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=10)
        while True:
            method, path = random.choice((("GET", "/"), ("GET", "/products/42"), ("GET", "/cart"), ("POST", "/orders")))
            trace = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}
            try:
                client.request(method, path, b"{}" if method == "POST" else None, trace)
                client.getresponse().read()
            except (OSError, HTTPException):
                client.close()
            time.sleep(random.expovariate(12))


def ask(url: str, body: bytes | None = None) -> Any:
    """Ask something that is answered with JSON."""
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as answer:
        return json.load(answer)


def wait(condition: Callable[[], Any], what: str, timeout_s: float = 240.0) -> Any:
    """Wait until something is so, and give it."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := condition():
                return found
        except (OSError, ValueError, KeyError):
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"in vain for {timeout_s:g} s: {what}")
        time.sleep(0.5)


def photograph(browser: Browser, url: str, name: str, wait_s: float = 8.0) -> None:
    """Take a picture of a page, once it has had time to fill; where the repository lies is nobody's concern."""
    browser.resize(*WIDE)
    browser.colours("light")
    browser.open(url)
    time.sleep(wait_s)
    browser.run(WITHOUT_PATHS, f"{ROOT}/")
    browser.driver.save_screenshot(str(PICTURES / f"seeing-{name}.png"))


def shown_vector(result: list[Any]) -> str:
    """An answer of Prometheus as a person reads it."""
    lines = []
    for one in sorted(result, key=lambda one: -float(one["value"][1])):
        names, values = zip(*sorted(one["metric"].items()), strict=True)
        lines.append(f"{{{labels_text(names, values)}}}  {float(one['value'][1]):.2f}")
    return "\n".join(lines)


def cut(text: str, width: int = 150) -> str:
    """Lines that fit on the page."""
    return "\n".join(line if len(line) <= width else f"{line[: width - 1]}…" for line in text.splitlines())


def live_through(site: Site, directory: Path) -> dict[str, str]:
    """Have it happen; what was seen, by the name of its place in the text."""
    for _ in range(CLIENTS):
        threading.Thread(target=site.be_a_client, daemon=True).start()
    time.sleep(BEFORE_S)
    ask(f"http://127.0.0.1:{site.ports[FAILING]}/__control", json.dumps({"fail_ratio": RATIO}).encode())
    began = time.monotonic()

    def firing() -> Any:
        alerts = ask(f"{site.prometheus}/api/v1/alerts")["data"]["alerts"]
        return next((one for one in alerts if one["labels"]["alertname"] == ALERT and one["state"] == "firing"), None)

    alert = wait(firing, "the alert")
    seen = {"after_s": f"{time.monotonic() - began:.0f}"}
    labels = {name: alert["labels"][name] for name in ("alertname", "severity", "service")}
    told = {**labels, "summary": alert["annotations"]["summary"], "runbook_url": alert["annotations"]["runbook_url"]}
    seen["alert"] = "\n".join(f"{name}: {value}" for name, value in told.items())
    time.sleep(AFTER_S)
    seen["by_backend"] = shown_vector(wait(lambda: site.query(BY_BACKEND), "failures by backend"))
    seen["status"] = cut(site.command("status"))
    seen["list"] = cut(site.command("explain", "--backend", f"shop/{FAILING}", "--outcome", "failed", "--limit", "4"))
    decisions = ask(f"{site.url}/smartedge/decisions?{urlencode({'backend': f'shop/{FAILING}', 'outcome': 'failed'})}")[
        "decisions"
    ]
    request_id = next(one["request_id"] for one in decisions if one["method"] == "POST")
    seen["request_id"] = request_id
    seen["explain"] = cut(site.command("explain", request_id))
    seen["trace_id"] = ask(f"{site.url}/smartedge/decisions/{quote(request_id, safe='')}")["trace_id"]
    now = time.time()
    exemplars = ask(
        f"{site.prometheus}/api/v1/query_exemplars?"
        + urlencode({"query": "smartedge_request_duration_seconds_bucket", "start": now - 300, "end": now})
    )["data"]
    seen["exemplar"] = next(
        json.dumps(one["labels"]) for series in exemplars for one in series["exemplars"] if "request_id" in one["labels"]
    )
    with running_browser(directory / "profile", "en-US") as browser:
        photograph(browser, f"{site.prometheus}/classic/alerts", "alert", 3)  # where Debian's Prometheus has it
        graph = urlencode({"g0.expr": BY_BACKEND, "g0.tab": "0", "g0.range_input": "5m"})
        photograph(browser, f"{site.prometheus}/classic/graph?{graph}", "graph", 5)
        photograph(browser, f"{site.url}/smartedge/", "page")
        photograph(browser, f"{site.url}/smartedge/#/backend/shop/{FAILING}", "backend")
        photograph(browser, f"{site.url}/smartedge/#/request/{quote(request_id, safe='')}", "request")
        seen["disable"] = site.command("disable", f"shop/{FAILING}")
        wait(lambda: not site.query(BY_BACKEND.replace("[1m]", "[20s]") + " > 0"), "the end of failures")
        seen["events"] = cut(site.command("events"))
        photograph(browser, f"{site.url}/smartedge/#/events", "after")
    seen["after"] = cut(site.command("status"))
    return seen


def main() -> None:
    """Live through it, and write the page."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        seen = live_through(Site(Path(place), stack), Path(place))
    seen["by_backend_query"] = BY_BACKEND
    (Path(tempfile.gettempdir()) / "seeing.json").write_text(json.dumps(seen, indent=1))  # to change the text without another run
    PAGE.write_text(re.sub(r"@(\w+)@", lambda found: seen[found[1]], TEXT), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


TEXT = """\
# Seeing: from an alert to the reason

How the parts of *Observe* belong together, by one incident. It was a real run, of three backends, an edge of two workers,
Prometheus and some clients: [`docs/make_seeing.py`](make_seeing.py) lives through it again, and this page is made of what was
seen. A shop has three backends, taken in turn, and breakers that only observe yet. On one the disk is full: a third of what
it is asked ends with status 500. It answers `/health` with 200 all the same.

## 1. The alert

@after_s@ seconds after the first failure somebody is woken:

```text
@alert@
```

![Prometheus' page of alerts, with the alert that burns](img/seeing-alert.png)

What can be read again is tried again elsewhere ([retries](overload.md)), so that most clients have noticed nothing; what may
not be sent twice, such as an order, has failed. The alert watches what clients get: 1.44% of it in the last hour and in the
last five minutes. `runbook_url` leads to [its section](alerts.md#smartedgeerrorbudgetburnsfast): what it means, what to look
at, what to do.

## 2. The dashboard: one backend, or all?

The section says what to ask first. In Grafana it is on the [overview](dashboards.md), *Failures of each backend*; in
Prometheus

```text
@by_backend_query@

@by_backend@
```

![The same as a graph of Prometheus](img/seeing-graph.png)

One backend, and one kind of failure. (With `backend="none"` nobody could be asked, and with all of them it would be something
that they share.) A click on its line leads to the dashboard of that backend, *Page of the edge* at the top to the page of the
edge.

## 3. The backend

![The page of the edge: three backends, of which one fails](img/seeing-page.png)

The page, `http://EDGE/smartedge/`, shows it at once, and so does `smartedge status`:

```console
$ smartedge status
@status@
```

Its probes are good, and its breaker is closed: the edge was told to do no more than `observe` (`breaker.observe`), as one
does in the first weeks. A click on the backend opens its last fifteen minutes, its events and its last decisions:

![The backend in depth: its history, its events, its last decisions](img/seeing-backend.png)

## 4. The request

```console
$ smartedge explain --backend shop/shop-2 --outcome failed --limit 4
@list@
```

Requests that failed or were tried again are always kept, the last thousand of them, and of the others those that
`explain.sample_ratio` takes. From Grafana there is a shorter way: the dots on the graphs of durations are requests
([exemplars](metrics.md#exemplars)), and lead here by their id:

```json
@exemplar@
```

## 5. The reason

```console
$ smartedge explain @request_id@
@explain@
```

![The same on the page: candidates, numbers, what became of it](img/seeing-request.png)

That is all: the backend was picked because it was its turn, it answered 500, and a POST is not sent again. The trace
`@trace_id@` goes on where the backend's own spans and logs are ([traces](tracing.md)); the [access log](access-log.md) has
the same id on the request's line. There somebody finds the full disk.

## 6. What is done, and that it was right

```console
$ smartedge disable shop/shop-2
@disable@
```

No request fails any more, and the alert ends when the last five minutes are good. What happened is written down, for whoever
asks tomorrow:

```console
$ smartedge events
@events@
```

![The page's events after it](img/seeing-after.png)

```console
$ smartedge status
@after@
```

When the disk has room, `smartedge enable shop/shop-2` has it back. And with breakers that do not only observe nobody would
have been woken: [`smartedge_backend_observed_ejections_total`](metrics.md) says how often this one would have been opened,
and the events say it each time.

## Where to look for what

| you want to know | ask |
|---|---|
| whether somebody should get up | [alerts](alerts.md) |
| since when, how much, of which backend | [dashboards](dashboards.md), [metrics](metrics.md) |
| how it is now, and to do something about it | the page, [`smartedge status`, `top`](operating.md) |
| what happened, in order | [events](operating.md#what-happened), on the page or by `smartedge events --follow` |
| why this request went there | [`smartedge explain`](operating.md), `X-SmartEdge-Explain: 1` |
| every request | [access log](access-log.md) |
| where the time of a request went, through all programs | [traces](tracing.md) |
"""


if __name__ == "__main__":
    main()
