"""Takes the pictures of the page, docs/img/page-*.png, of a real edge under load: python docs/make_screenshots.py.

Starts six example backends, of which one is down and one fails now and then, an edge of two workers in front of them, and
clients; waits until there is something to see, and photographs it in Chromium (Debian: chromium, chromium-driver; Selenium is in
requirements-dev.txt). Takes six minutes.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.live.browser import Browser, running_browser  # noqa: E402
from tests.live.processes import free_port, wait_until  # noqa: E402

PICTURES = ROOT / "docs" / "img"
PATHS = ("/", "/cart", "/products/42", "/products/7", "/login", "/api/orders", "/api/users/7", "/api/search")
CLIENTS, WARM_UP_S = 10, 330
WIDE, PHONE = (1360, 860), (390, 780)
SHAKY, DOWN, DRAINED = "api-1", "api-2", "shop-3"


class Example(BaseHTTPRequestHandler):
    """A backend that takes its time, and is as its server says."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        """Answer after a while; fail if that is what it does."""
        wave = 1 + 0.5 * (int(time.time()) // 40 % 2)
        time.sleep(random.lognormvariate(-4.7, 0.45) * self.server.slow * wave)
        fails = self.server.name == SHAKY and self.path != "/health" and random.random() < 0.04
        body = b'"hello"\n'
        self.send_response(503 if fails or self.server.down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def backend(name: str, slow: float) -> dict[str, Any]:
    """Start one; what the configuration says of it."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Example)
    server.handle_error = lambda *_: None  # the edge closes connections as it likes
    server.daemon_threads, server.name, server.slow, server.down = True, name, slow, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if name == DOWN:
        threading.Timer(WARM_UP_S - 60, setattr, (server, "down", True)).start()
    return {"id": name, "url": f"http://127.0.0.1:{server.server_port}"}


def ask_on(port: int) -> None:
    """Be a client."""
    client = HTTPConnection("127.0.0.1", port, timeout=10)
    while True:
        busy = 1.6 if int(time.time()) % 150 < 60 else 1.0
        try:
            client.request("GET", random.choice(PATHS))
            client.getresponse().read()
        except (OSError, HTTPException):
            client.close()
            time.sleep(0.2)
        time.sleep(random.expovariate(12 * busy))


def photograph(browser: Browser, url: str, name: str, *, place: str = "", scheme: str = "light", phone: bool = False) -> None:
    """Take one picture."""
    browser.resize(*(PHONE if phone else WIDE), phone=phone)
    browser.colours(scheme)
    browser.open(f"{url}/smartedge/{place}")
    wait_until(lambda: len(browser.rows()) >= 6, 20, "the backends")
    wait_until(lambda: browser.run("return Boolean(document.querySelector('#backends .spark path[d]'))"), 20, "the history")
    time.sleep(7)  # for the rates, and what the panel asks for
    path = PICTURES / f"page-{name}.png"
    browser.driver.save_screenshot(str(path))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def tried_twice(url: str) -> str:
    """Ask, and ask to be told why, until a request has needed two tries; its id."""
    for _ in range(1000):
        ask(f"{url}/api/orders", headers={"X-SmartEdge-Explain": "1"})
        for one in ask(f"{url}/smartedge/decisions?limit=20")["decisions"]:
            if one["try_count"] == 2 and "asked" in one["why"]:
                return str(one["request_id"])
    raise SystemExit("no request has needed two tries")


def main() -> None:
    """Take all of them."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    shop = [backend(f"shop-{number}", 1 + number / 4) | {"zone": "eu-west"} for number in (1, 2, 3)]
    api = [backend(f"api-{number}", 1.2 + number / 3) | {"max_in_flight": 20} for number in (1, 2, 3)]
    configuration = {
        "services": {"shop": {"strategy": "ewma", "backends": shop}, "api": {"strategy": "least_requests", "backends": api}},
        "routes": [{"path": "/api", "to": "api"}, {"to": "shop"}],
        "health": {"interval_s": 1},
        "explain": {"sample_ratio": 0.2},
        "workers": 2,
    }
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "backends.json").write_text(json.dumps(configuration))
        command = [sys.executable, "-m", "smartedge", "run", "--config", f"{place}/backends.json", "--bind", f"127.0.0.1:{port}"]
        edge = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: ask(f"{url}/health"), 20, "the edge")
            for _ in range(CLIENTS):
                threading.Thread(target=ask_on, args=(port,), daemon=True).start()
            print(f"for {WARM_UP_S} s there are only requests")
            time.sleep(WARM_UP_S)
            ask(f"{url}/smartedge/backends/{DRAINED}/drain", b"{}")
            with running_browser(directory / "profile", "en-US") as browser:
                photograph(browser, url, "light")
                photograph(browser, url, "dark", scheme="dark")
                photograph(browser, url, "backend", place=f"#/backend/api/{SHAKY}")
                photograph(browser, url, "request", place=f"#/request/{tried_twice(url)}")
                photograph(browser, url, "phone", scheme="dark", phone=True)
        finally:
            edge.terminate()
            edge.wait(20)


def ask(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
    """Ask the edge, or a backend, something that is answered with JSON."""
    with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=20) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
