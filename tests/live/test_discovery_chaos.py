"""Two hundred backends that come and go in etcd, under load: nobody notices, and at the end the edge has what etcd has."""

from __future__ import annotations

import base64
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.live.edges import LiveEdge, start_edge
from tests.live.etcd_server import EtcdServer, etcd
from tests.live.peers import Script, answers
from tests.live.processes import ROOT, ask, free_port, running, wait_until
from tests.live.steady import SteadyLoad

BACKENDS = 200
FLAP_S = 60.0 if os.environ.get("SMARTEDGE_CHAOS") == "full" else 6.0
AWAY_S = 2.0

pytestmark = pytest.mark.timeout(240)


class Flapping:
    """Puts backends into etcd and takes them away, some fifty each second, as an orchestrator that is busy does.

    All are one server, on as many addresses of this machine; each that comes has an address that was not used for long.
    """

    def __init__(self, store: EtcdServer, port: int) -> None:
        self._store, self._port = store, port
        self._number = 0
        self._rng = random.Random(3)
        self.there: dict[str, str] = {}
        self.changes = 0

    def come(self) -> None:
        """One more."""
        self._number += 1
        name, url = f"b{self._number}", f"http://127.{1 + self._number // 250}.0.{1 + self._number % 250}:{self._port}"
        self._call("put", key=f"/services/web/{name}", value=url)
        self.there[name] = url

    def go(self) -> None:
        """One less, whichever."""
        name = self._rng.choice(sorted(self.there))
        self._call("deleterange", key=f"/services/web/{name}")
        del self.there[name]

    def run(self, over: threading.Event) -> None:
        """Change one after the other, a burst now and then."""
        while not over.is_set():
            for _ in range(self._rng.choice([1, 1, 1, 20])):
                self.go()
                self.come()
                self.changes += 2
            over.wait(self._rng.uniform(0, 0.15))

    def _call(self, what: str, **said: str) -> None:
        body = {name: base64.b64encode(text.encode()).decode() for name, text in said.items()}
        answer = ask(f"{self._store.url}/v3/kv/{what}", "POST", body=json.dumps(body))
        assert answer.status == 200, answer.text


def test_backends_that_flap_in_etcd_cost_no_request(tmp_path: Path) -> None:
    port = free_port()
    server = [sys.executable, str(ROOT / "server1.py"), "--host", "0.0.0.0", "--port", str(port)]
    discover = {"etcd": {"prefix": "/services/web/", "endpoints": []}}
    with etcd(tmp_path) as store, running(server, port), Script(answers()) as nobody:
        discover["etcd"]["endpoints"] = [store.url]
        flapping = Flapping(store, port)
        for _ in range(BACKENDS):
            flapping.come()
        over = threading.Event()
        with start_edge(tmp_path, nobody, arguments=("--workers", "2"), discover=discover, backends=[]) as edge:
            wait_until(lambda: same(edge, flapping), 30, "all to be found")
            thread = threading.Thread(target=flapping.run, args=(over,))
            with SteadyLoad(edge.port) as load:
                try:
                    thread.start()
                    time.sleep(FLAP_S / 2)
                    store.pause()  # whoever changes waits, too
                    time.sleep(AWAY_S)
                    store.resume()
                    time.sleep(FLAP_S / 2)
                finally:
                    store.resume()
                    over.set()
                    thread.join(30)
                wait_until(lambda: same(edge, flapping), 20, "the edge to have what etcd has")
            assert load.failures == []
            assert load.answered > 200
            assert flapping.changes > 50
            assert "Traceback" not in edge.process.output, edge.process


def same(edge: LiveEdge, flapping: Flapping) -> bool:
    """Whether all workers have the backends that there are, and all of them are well."""
    status = edge.status()
    found = {backend["url"]: backend["health"] for backend in status["backends"]}
    return found == dict.fromkeys(flapping.there.values(), "healthy") and len({w["generation"] for w in status["workers"]}) == 1
