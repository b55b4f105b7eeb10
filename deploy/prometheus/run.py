"""Runs Prometheus with what lies here, beside `make run`; this is what `make run-prometheus` starts.

Its data is kept in a directory of its own that goes with it. Standard library only.

Exit status: that of Prometheus; 2, after one line that says why, where it cannot be started.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
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
        print(f"Prometheus: http://{arguments.listen}/alerts  http://{arguments.listen}/targets", flush=True)
        print(f"Try: http://{arguments.listen}/graph?g0.expr=service:smartedge_requests:rate5m&g0.tab=0", flush=True)
        with subprocess.Popen(command) as process:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:  # it has had the Ctrl-C, too
                    continue


if __name__ == "__main__":
    sys.exit(main())
