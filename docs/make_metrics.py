"""Writes the table of docs/metrics.md from the program's own: python docs/make_metrics.py.

Only what stands between the two marks is replaced; the text around them is written by hand. `--check` writes nothing
and ends with status 1 when the page is not up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "metrics.md"
BEGIN = "<!-- begin: made by docs/make_metrics.py -->"
END = "<!-- end -->"

MARKED_UP = {
    "|": "\\|",
    'backend="none"': '`backend="none"`',
    "but for observe": "but for `observe`",
    "Connections of HTTP/2": "Connections of [HTTP/2](http2.md)",
    "source of discovery": "source of [discovery](discovery.md)",
}
"""What a reader of /metrics gets as plain text."""


def made() -> str:
    """Give everything between the marks."""
    sys.path.insert(0, str(ROOT))
    from smartedge.admin.metrics import TABLE

    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for line in TABLE:
        kind = line.kind.__name__.removesuffix("MetricFamily").lower()
        labels = ", ".join(f"`{label}`" for label in line.labels)
        meaning = line.help
        for plain, marked_up in MARKED_UP.items():
            meaning = meaning.replace(plain, marked_up)
        rows.append(f"| `{line.name}` | {kind} | {labels} | {meaning} |")
    return "\n".join(rows)


def page() -> str:
    """Give the whole page as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{made()}\n\n{END}{after}"


def main() -> int:
    """Write the page, or only compare it."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != wanted:
        print(f"{PAGE.relative_to(ROOT)} is not up to date: run python docs/make_metrics.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
