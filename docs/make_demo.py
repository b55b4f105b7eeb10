"""Draws docs/img/demo.svg, the picture at the head of the README, from a real session: python docs/make_demo.py.

Runs what `make run` runs (ports 8080 to 8082 must be free) and the commands below, waits for what they lead to, and draws the
lines that were printed, as they were. Needs `curl`, and `ab` from apache2-utils. Takes some ten seconds.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "img" / "demo.svg"
LOAD = "ab -q -n 20000 -c 10 http://localhost:8080/"
STOP = """curl localhost:8081/__control -d '{"running": false}'"""
ASK = "curl -sD- -H 'X-SmartEdge-Explain: 1' localhost:8080/shop"

COLUMNS, SIZE, LINE, MARGIN = 108, 13, 19, 18
WIDTH = int(COLUMNS * SIZE * 0.602) + 2 * MARGIN
BACKGROUND, TEXT, COMMAND, GOOD, BAD, NOTE = "#1b1f24", "#c9d1d9", "#ffffff", "#7ee787", "#ff7b72", "#8b949e"


class Session:
    """The first terminal, in which the edge runs, and what it has printed."""

    def __init__(self) -> None:
        command = [sys.executable, "deploy/local.py"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def wait(self, start: str, timeout_s: float = 20.0) -> None:
        """Wait for a line that begins so."""
        deadline = time.monotonic() + timeout_s
        while not any(line.startswith(start) for line in self.lines):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"no line {start!r} in\n" + "\n".join(self.lines))
            time.sleep(0.05)


def run(command: str) -> list[str]:
    """Run a command of the second terminal; its lines."""
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def record() -> list[str]:
    """Live through it, and give the lines in the order in which they came."""
    edge = Session()
    try:
        for port in (8081, 8082):
            edge.wait(f"✅ http://localhost:{port} OK")
        shown = ["$ make run", *edge.lines, ""]
        for _ in range(2):
            shown += ["$ curl localhost:8080/", *run("curl -s localhost:8080/")]
        before = len(edge.lines)
        load = subprocess.Popen(LOAD.split(), stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        run(STOP.replace("curl", "curl -s"))
        shown += ["", f"$ {LOAD} &", f"$ {STOP}   # one of two goes, in the middle of the load"]
        edge.wait("❌ http://localhost:8081 Offline")
        report = load.communicate(timeout=120)[0].splitlines()
        shown += edge.lines[before:]
        shown += [line for line in report if line.startswith(("Complete requests", "Failed requests", "Non-2xx", "Requests per"))]
        answer = next(line for line in run(ASK) if line.startswith("X-SmartEdge-Decision"))
        shown += ["", f"$ {ASK} | grep Decision", answer.rstrip()]
    finally:
        edge.process.terminate()
        edge.process.wait(20)
    return shown


def colour(line: str) -> str:
    """Say in which colour a line is drawn."""
    if line.startswith("$ "):
        return COMMAND
    if line.startswith(("❌", "   GET")):
        return BAD
    if line.startswith(("✅", "🚀", "Failed requests:        0")):
        return GOOD
    return TEXT


def wrapped(line: str) -> list[str]:
    """Go on in another line where one is too long, between two words."""
    return textwrap.wrap(line, COLUMNS, subsequent_indent="  ") if len(line) > COLUMNS else [line]


def svg(lines: list[str]) -> str:
    """Draw the lines as a terminal shows them."""
    rows = [(piece, colour(line)) for line in lines for piece in wrapped(line)]
    height = len(rows) * LINE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{BACKGROUND}"/>',
        f"<g font-family=\"ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"{SIZE}\">",
    ]
    for number, (piece, fill) in enumerate(rows):
        y = MARGIN + number * LINE + SIZE
        command, mark, note = piece.partition("   # ")
        text = escape(command, quote=False) + (f'<tspan fill="{NOTE}">{escape(mark + note, quote=False)}</tspan>' if mark else "")
        if piece:
            parts.append(f'<text x="{MARGIN}" y="{y}" fill="{fill}" xml:space="preserve">{text}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def main() -> int:
    """Record the session and write the picture."""
    PICTURE.write_text(svg(record()), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
