"""What `smartedge top` shows, and what each key does to it: statuses in, lines of styled text out. No terminal here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from smartedge.cli.event_line import event_parts, style_of
from smartedge.cli.paint import STYLES
from smartedge.cli.status_table import refusal_words
from smartedge.cli.table import duration_text, placed, width_of
from smartedge.config.values import escaped

Entry = Mapping[str, Any]


class Piece(NamedTuple):
    """Some text of a line. style: plain, dim, bold, good, warn, bad, or selected."""

    text: str
    style: str = "plain"


Line = Sequence[Piece]


class TopColumn(NamedTuple):
    """A column: what is shown of a row, by what it is sorted, and whether the largest come first."""

    title: str
    show: Callable[[Row], Piece]
    key: Callable[[Row], Any]
    largest_first: bool = True
    is_word: bool = False


class KeyAction(NamedTuple):
    """What a key asks of the edge. said: in words."""

    path: str
    said: str


class Row(NamedTuple):
    """One backend. requests_per_s, failed_per_s: since the status before, else of the last minute."""

    entry: Entry
    requests_per_s: float
    failed_per_s: float

    @property
    def name(self) -> str:
        """Service and id."""
        return f"{self.entry.get('service', '')}/{self.entry.get('id', '')}"


ACTIONS: Final = {"d": "drain", "e": "enable", "x": "disable"}

KEYS: Final = "q quit  ? keys  < > sort  / filter  enter details  d drain  e enable  x disable"

HELP: Final = (
    "up down page home end  choose a backend          enter  its details, and its last requests",
    "< >                    sort by another column     r      the other way round",
    "/                      only names with a text     esc    back",
    "d e x                  drain, enable, disable     q      quit",
)


def rows_of(status: Entry, before: Entry | None = None, passed_s: float = 0.0) -> list[Row]:
    """Make the rows of a status. before: the status of so many seconds ago, for the rates since then."""
    old = {(one.get("service"), one.get("id")): one for one in _entries(before)} if before and passed_s > 0 else {}
    return [_row(entry, old.get((entry.get("service"), entry.get("id"))), passed_s) for entry in _entries(status)]


def _entries(status: Entry | None) -> Iterator[Entry]:
    services = (status or {}).get("services")
    for service in services.values() if isinstance(services, dict) else ():
        if isinstance(service, dict):
            yield from (one for one in service.get("backends", ()) if isinstance(one, dict))


def _row(entry: Entry, old: Entry | None, passed_s: float) -> Row:
    recent = entry.get("recent") or {}
    rates = []
    for key, rate in (("requests", "requests_per_s"), ("failed", "failed_per_s")):
        gained = -1 if old is None else entry.get(key, 0) - old.get(key, 0)
        rates.append(gained / passed_s if gained >= 0 else recent.get(rate) or 0.0)  # fewer than before: the edge began anew
    return Row(entry, rates[0], rates[1])


def _word(key: str) -> Callable[[Row], Piece]:
    def show(row: Row) -> Piece:
        value = escaped(str(row.entry.get(key, "-")))
        return Piece(value, STYLES.get(value, "plain"))

    return show


def _number(key: str) -> Callable[[Row], float]:
    return lambda row: row.entry.get(key) or 0.0


def _seconds(key: str) -> Callable[[Row], Piece]:
    def show(row: Row) -> Piece:
        value = row.entry.get(key)
        return Piece(f"{value * 1000:,.1f} ms" if value else "-")

    return show


def _share(row: Row) -> float:
    return (row.entry.get("recent") or {}).get("share_ratio") or 0.0


def _failures(row: Row) -> Piece:
    return Piece(f"{row.failed_per_s:,.1f}", "bad" if row.failed_per_s else "dim")


def _check(row: Row) -> Piece:
    check = row.entry.get("last_check")
    if not isinstance(check, dict):
        return Piece("-", "dim")
    return Piece(escaped(str(check.get("detail", ""))), "dim" if check.get("ok") else "bad")


COLUMNS: Final = (
    TopColumn("BACKEND", lambda row: Piece(escaped(row.name), "bold"), lambda row: row.name, largest_first=False, is_word=True),
    TopColumn("STATE", _word("state"), lambda row: str(row.entry.get("state")), is_word=True),
    TopColumn("HEALTH", _word("health"), lambda row: str(row.entry.get("health")), is_word=True),
    TopColumn("BREAKER", _word("breaker"), lambda row: str(row.entry.get("breaker")), is_word=True),
    TopColumn("SHARE", lambda row: Piece(f"{_share(row):.1%}"), _share),
    TopColumn("IN FLIGHT", lambda row: Piece(f"{row.entry.get('in_flight', 0):,}"), _number("in_flight")),
    TopColumn("REQ/S", lambda row: Piece(f"{row.requests_per_s:,.1f}"), lambda row: row.requests_per_s),
    TopColumn("FAILED/S", _failures, lambda row: row.failed_per_s),
    TopColumn("P50", _seconds("p50_s"), _number("p50_s")),
    TopColumn("P99", _seconds("p99_s"), _number("p99_s")),
    TopColumn("LAST PROBE", _check, lambda row: str((row.entry.get("last_check") or {}).get("detail", "")), is_word=True),
)


@dataclass
class TopView:
    """What is looked at, and how; changed by `press`, drawn by `lines`. Owned by the command.

    chosen: the name of the backend that the bar is on. mode: table, filter, detail, help, or confirm (what `pending` says).
    """

    rows: list[Row] = field(default_factory=list)
    status: Entry = field(default_factory=dict)
    decisions: Sequence[Entry] = ()
    events: Sequence[Entry] = ()
    trouble: str = ""
    said: str = ""
    sort: int = 0
    turned: bool = False
    wanted: str = ""
    chosen: str = ""
    mode: str = "table"
    pending: KeyAction | None = None

    def shown(self) -> list[Row]:
        """The rows that fit the filter, in order."""
        column = COLUMNS[self.sort]
        rows = sorted((row for row in self.rows if self.wanted.lower() in row.name.lower()), key=lambda row: row.name)
        rows.sort(key=column.key, reverse=column.largest_first != self.turned)
        return rows

    def row(self) -> Row | None:
        """The row that the bar is on."""
        rows = self.shown()
        return next((row for row in rows if row.name == self.chosen), rows[0] if rows else None)

    def press(self, key: str) -> KeyAction | None:
        """Do what a key means; return what is to be asked of the edge. "quit" ends `mode`."""
        if self.mode == "filter":
            self._type(key)
            return None
        if self.mode == "confirm":
            return self._confirm(key)
        self.said = ""
        if key == "q":
            self.mode = "quit"
        elif key in ("esc", "?", "h"):
            self.mode = "help" if key != "esc" and self.mode != "help" else "table"
            self.wanted = "" if key == "esc" and self.mode == "table" else self.wanted
        elif key == "/":
            self.mode, self.wanted = "filter", ""
        elif key in ("<", ">", "left", "right"):
            self.sort = (self.sort + (1 if key in (">", "right") else -1)) % len(COLUMNS)
            self.turned = False
        elif key == "r":
            self.turned = not self.turned
        elif key == "enter":
            self.mode = "detail" if self.mode != "detail" and self.row() is not None else "table"
        elif key in _MOVES:
            self._move(_MOVES[key])
        elif key in ACTIONS and (row := self.row()) is not None:
            service, backend = (quote(str(row.entry.get(name)), safe="") for name in ("service", "id"))
            path = f"/smartedge/services/{service}/backends/{backend}/{ACTIONS[key]}"
            self.pending = KeyAction(path, f"{ACTIONS[key]} {escaped(row.name)}")
            self.mode = "confirm"
        return None

    def _type(self, key: str) -> None:
        if key in ("enter", "esc"):
            self.mode = "table"
            self.wanted = "" if key == "esc" else self.wanted
        elif key == "backspace":
            self.wanted = self.wanted[:-1]
        elif len(key) == 1 and key.isprintable():
            self.wanted += key

    def _confirm(self, key: str) -> KeyAction | None:
        asked, self.pending, self.mode = self.pending, None, "table"
        if key != "y":
            self.said = "nothing was changed"
            return None
        return asked

    def _move(self, by: int) -> None:
        names = [row.name for row in self.shown()]
        if names:
            at = names.index(self.chosen) if self.chosen in names else 0
            self.chosen = names[max(0, min(len(names) - 1, at + by))]

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """Draw it: so many lines at most, each of so many characters at most."""
        head = [self._first_line(), self._second_line(), ()]
        foot: Line = self._foot()
        room = max(1, height - len(head) - 1)
        body = {"help": self._help, "detail": self._detail}.get(self.mode, self._table)(room)
        body = [*body[:room], *([()] * (room - len(body)))]
        return [cut(line, width) for line in (*head, *body, foot)][:height]

    def _first_line(self) -> Line:
        status = self.status
        workers = status.get("workers") or ()
        counted = f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'}"
        parts = [f"SmartEdge {status.get('version', '?')}", f"generation {status.get('generation', '?')}", counted]
        if status.get("uptime_s") is not None:
            parts.append(f"up {duration_text(status['uptime_s'])}")
        line = [Piece(", ".join(parts), "bold")]
        if status.get("draining"):
            line.append(Piece("  draining", "warn"))
        if status.get("drowning"):
            line.append(Piece("  drowning", "bad"))
        if self.trouble:
            line.append(Piece(f"  {self.trouble}", "bad"))
        return line

    def _second_line(self) -> Line:
        up = sum(row.entry.get("health") == "healthy" for row in self.rows)
        in_flight = sum(row.entry.get("in_flight", 0) for row in self.rows)
        services = self.status.get("services") or {}
        waiting = sum(one.get("waiting", 0) for one in services.values())
        failed = sum(row.failed_per_s for row in self.rows)
        return (
            Piece(f"{sum(row.requests_per_s for row in self.rows):,.1f} requests/s  "),
            Piece(f"{failed:,.1f} failed/s  ", "bad" if failed else "plain"),
            Piece(f"{in_flight:,} in flight  {waiting:,} waiting  "),
            Piece(f"{up} of {len(self.rows)} up", "good" if up == len(self.rows) else "bad"),
            *(Piece(f"  refused {words}", "bad") for words in refusal_words(self.status)),
        )

    def _table(self, room: int) -> list[Line]:
        rows = self.shown()
        cells = [[_harmless(column.show(row)) for column in COLUMNS] for row in rows]
        titles = [
            column.title + (" v" if column.largest_first != self.turned else " ^") if index == self.sort else column.title
            for index, column in enumerate(COLUMNS)
        ]
        widths = [max([len(title), *(width_of(row[index].text) for row in cells)]) for index, title in enumerate(titles)]
        chosen = self.row()
        at = rows.index(chosen) if chosen is not None else 0
        first = max(0, min(at - (room - 2) // 2, len(rows) - (room - 1)))  # the bar stays in sight
        lines: list[Line] = [_in_columns([Piece(title, "dim") for title in titles], widths)]
        for row, line in list(zip(rows, cells, strict=True))[first : first + room - 1]:
            laid_out = _in_columns(line, widths)
            lines.append([Piece(piece.text, "selected") for piece in laid_out] if row is chosen else laid_out)
        return lines

    def _detail(self, _room: int) -> list[Line]:
        row = self.row()
        if row is None:
            return []
        lines: list[Line] = [[Piece(escaped(row.name), "bold"), Piece(f"  {escaped(str(row.entry.get('url')))}")]]
        if row.entry.get("why_not"):
            lines.append([Piece(f"gets nothing: {row.entry['why_not'].replace('_', ' ')}", "bad")])
        skipped = {"service", "id", "url", "will", "recent", "why_not"}
        for key, value in row.entry.items():
            if key not in skipped and value not in (None, [], {}):
                shown = ", ".join(f"{one}: {said}" for one, said in value.items()) if isinstance(value, dict) else str(value)
                lines.append([Piece(f"{key:>16}  ", "dim"), Piece(escaped(shown))])
        if self.events:
            lines.append(())
        for one in reversed(self.events):
            when, what, sentence = event_parts(one)
            lines.append([Piece(f"{when[11:19]:>9}  ", "dim"), Piece(what, style_of(one)), Piece(f"  {sentence}")])
        lines.append(())
        for one in self.decisions:
            style = "good" if one.get("outcome") == "ok" else "bad"
            told = f"{one.get('method')} {one.get('path')} {one.get('status')}"
            lines.append([Piece(f"{one.get('outcome')!s:>9}  ", style), Piece(escaped(f"{told}  {one.get('summary', '')}"))])
        return lines

    def _help(self, _room: int) -> list[Line]:
        return [[Piece(text)] for text in HELP]

    def _foot(self) -> Line:
        if self.mode == "confirm" and self.pending is not None:
            return [Piece(f"{self.pending.said}? y/n", "warn")]
        if self.mode == "filter":
            return [Piece(f"/{self.wanted}", "bold")]
        text = f"only names with {self.wanted}  " if self.wanted else ""
        said = [Piece(f"{self.said}  ", "warn")] if self.said else []
        return [*said, Piece(text, "bold"), Piece(KEYS, "dim")]


_MOVES: Final = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -10, "pagedown": 10, "home": -(10**6), "end": 10**6}


def _in_columns(cells: Sequence[Piece], widths: Sequence[int]) -> list[Piece]:
    """Words to the left, numbers to the right."""
    return [
        Piece(f"{placed(cell.text, width, not column.is_word)}  ", cell.style)
        for cell, width, column in zip(cells, widths, COLUMNS, strict=True)
    ]


def _harmless(piece: Piece) -> Piece:
    """Give text that a terminal obeys nothing in."""
    return piece._replace(text=escaped(piece.text))


def cut(line: Line, width: int) -> list[Piece]:
    """Leave out what does not fit, and what a terminal would obey."""
    kept = []
    for piece in map(_harmless, line):
        if width <= 0:
            break
        text = piece.text[:width]
        while width_of(text) > width:
            text = text[:-1]
        kept.append(piece._replace(text=text))
        width -= width_of(piece.text)
    return kept
