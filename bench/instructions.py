"""How many instructions our own code takes per request: steady where the microseconds of a busy machine are not.

valgrind counts two runs of bench/hot_path.py that differ in nothing but the number of requests; the difference is theirs. The
same tree gives the same figure to about 1%, on a busy machine, too (which requests are sampled is chance). What follows after
`--` goes to hot_path.py: `python bench/instructions.py -- --backends 500`; with `--access-log` the log is written. Needs valgrind
(Debian: apt install valgrind); takes a minute.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HOT_PATH = Path(__file__).with_name("hot_path.py")
FEW, MANY = 1000, 11000
"""Requests of the two runs: with the few, all caches are full and the interpreter has specialised its code."""

COUNTED = re.compile(r"I\s+refs:\s+([\d,]+)")


def instructions(requests: int, options: list[str]) -> int:
    """Count a whole run of so many requests, start and end of the interpreter among it."""
    counting = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    program = [sys.executable, str(HOT_PATH), "--requests", str(requests), *options]
    environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(HOT_PATH.parent.parent)}
    done = subprocess.run([*counting, *program], env=environ, stderr=subprocess.PIPE, text=True, check=False)
    found = COUNTED.search(done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{' '.join(program)} failed under valgrind:\n{done.stderr}")
    return int(found[1].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description="Count instructions per request of our own code.")
    parser.add_argument("options", nargs="*", help="of hot_path.py, behind a --")
    parser.add_argument(
        "--access-log", metavar="FORMAT", nargs="?", const="json", help="with the log on: json, combined or logfmt"
    )
    said = parser.parse_args()
    options = [*said.options, *(["--access-log", said.access_log] if said.access_log else [])]
    with ThreadPoolExecutor() as at_once:
        few, many = at_once.map(lambda requests: instructions(requests, options), (FEW, MANY))
    print(f"{(many - few) // (MANY - FEW):,} instructions per request besides the kernel and the event loop")


if __name__ == "__main__":
    main()
