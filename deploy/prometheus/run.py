"""Runs Prometheus with what lies here, beside `make run`; this is what `make run-prometheus` starts.

Its data is kept in a directory of its own that goes with it. Standard library only.

Exit status: that of Prometheus; 2, after one line that says why, where it cannot be started.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Start it, say where to look, and wait for its end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:9090", help="where Prometheus answers (127.0.0.1:9090)")
    parser.add_argument("--config", type=Path, default=HERE / "prometheus.yml", help="another configuration")
    arguments = parser.parse_args()
    program = shutil.which("prometheus")
    if program is None:
        print("prometheus is missing; install it with: sudo apt install prometheus", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="smartedge-prometheus-") as data:
        command = [program, f"--config.file={arguments.config}", f"--storage.tsdb.path={data}"]
        command += [f"--web.listen-address={arguments.listen}", "--log.level=warn"]
        command.append("--enable-feature=exemplar-storage")
        with subprocess.Popen(command) as process:
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # it goes with us, and its data with both
            say_where_to_look(f"http://{arguments.listen}", process)
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:  # it has had the Ctrl-C, too
                    continue


def say_where_to_look(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until it answers, and print its pages: Debian's has the older ones only, below /classic."""
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    try:
        urllib.request.urlopen(f"{url}/classic/alerts", timeout=5).close()
        pages = f"{url}/classic"
    except OSError:
        pages = url
    print(f"Prometheus: {pages}/alerts  {pages}/targets", flush=True)
    print(f"Try: {pages}/graph?g0.expr=service:smartedge_requests:rate5m&g0.tab=0", flush=True)


if __name__ == "__main__":
    sys.exit(main())
