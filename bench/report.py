"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import IdleRow, Row
from open_loop import OpenRow
from processes import ROOT, program


@dataclass(frozen=True, slots=True)
class RowSet:
    name: str
    title: str
    rows: list[Row] | list[IdleRow] | list[OpenRow]


def table(row_set: RowSet) -> str:
    """Aligned columns under a title; the first is text, the rest are numbers."""
    lines = [
        _idle_line(r) if isinstance(r, IdleRow) else _open_line(r) if isinstance(r, OpenRow) else _line(r) for r in row_set.rows
    ]
    return aligned(f"{row_set.name}: {row_set.title}", lines)


def aligned(title: str, lines: Sequence[Mapping[str, str]]) -> str:
    """A title, then a row for each of the lines, which all have the same columns."""
    columns = list(lines[0])
    widths = [max(len(column), *(len(line[column]) for line in lines)) for column in columns]

    def align(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])

    body = [align(list(line.values())) for line in lines]
    return "\n".join([title, align(columns), *body, ""])


def _line(row: Row) -> dict[str, str]:
    line = {
        "peer": row.peer,
        "CPU µs": f"{row.cpu_us:.1f}",
        "x Go": "-" if row.ratio is None else f"{row.ratio:.2f}",
        "(range)": "-" if row.ratio_range is None else "{:.2f}-{:.2f}".format(*row.ratio_range),
        "req/s": f"{row.rps:,.0f}",
        "p50 ms": f"{row.p50_ms:.2f}",
        "p99 ms": f"{row.p99_ms:.2f}",
        "PSS MB": f"{row.pss_mb:.1f}",
        "errors": str(row.errors),
    }
    if row.growth is not None:
        line["x without"] = f"{row.growth:.2f}"
    if row.resting_ms_per_s is not None:
        line["resting ms/s"] = f"{row.resting_ms_per_s:.0f}"
    return line


def _idle_line(row: IdleRow) -> dict[str, str]:
    return {
        "peer": row.peer,
        "kB/client": f"{row.kb_per_client:.1f}",
        "open": f"{row.still_open}/{row.clients}",
        "PSS MB before": f"{row.empty_mb:.1f}",
        "with them": f"{row.full_mb:.1f}",
        "resting ms/s": f"{row.resting_ms_per_s:.0f}",
    }


def _open_line(row: OpenRow) -> dict[str, str]:
    return {
        "peer": row.peer,
        "req/s": f"{row.rate:,}",
        "p50 ms": f"{row.p50_ms:.2f}",
        "p99 ms": f"{row.p99_ms:.2f}",
        "p99.9 ms": f"{row.p999_ms:.2f}",
        "worst ms": f"{row.worst_ms:.1f}",
        "noise ms": f"{row.noise_ms:.2f}",
        "CPU": f"{row.cpu_ratio:.2f}",
        "errors": str(row.errors),
    }


def write_json(path: Path, settings: Mapping[str, object], **figures: object) -> None:
    """What was measured, and where, when and with what."""
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "settings": settings,
        **figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def machine() -> dict[str, object]:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def versions() -> dict[str, str]:
    """What every program says about itself; one that is not there is not in the list."""
    found = {"python": platform.python_version()}
    asked = {
        "go": ["go", "version"],
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "caddy": ["caddy", "version"],
        "wrk": ["wrk", "-v"],
        "smartedge": ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--tags"],
    }
    for name, argv in asked.items():
        if path := program(argv[0]):
            run = subprocess.run([path, *argv[1:]], capture_output=True, text=True)
            lines = (run.stdout + run.stderr).strip().splitlines()
            found[name] = lines[0] if lines and not run.returncode else "unknown"
    for package in ("gevent", "flask", "requests", "httptools", "gunicorn", "aiohttp"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{package} is not installed", file=sys.stderr)
    return found
