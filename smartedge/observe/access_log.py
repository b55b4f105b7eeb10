"""The access log: a line for each request, as JSON, in the combined format, or as logfmt (docs/access-log.md).

A line is of a forwarded request, of an admin page, or of a request that the server refused. No request waits for it and none
fails by it: what ended in one round of the event loop is written down when the round is over, all together (run after run through
the same code is 1 µs a line cheaper), of texts most of which are known (observe/log_asked.py), and goes out by a thread
(observe/log_writer.py, observe/console.py).
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from weakref import WeakSet

from gevent import get_hub

from smartedge.balancer.cells import LOG_LINES_LOST
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.learned import Learned
from smartedge.http.request import Request
from smartedge.observe.log_combined import CombinedLines
from smartedge.observe.log_json import JsonLines
from smartedge.observe.log_line import NO_HEADERS, HeaderNames, LineFormat, OwnLine
from smartedge.observe.log_logfmt import LogfmtLines
from smartedge.observe.log_writer import LOST, LogWriter
from smartedge.observe.rotation import Rotation
from smartedge.observe.sampling import gap
from smartedge.proxy.exchange import Exchange

log = logging.getLogger("smartedge")

MOST_TOGETHER = 64
"""Requests of one round are written down earlier when they are so many: what they hold in memory is given back."""

FIRST_ERROR = 400
"""From this status on a line is always written."""


@dataclass(frozen=True, slots=True)
class LogStyle:
    """How lines look and which are written; made of the configuration, used by an AccessLog.

    format: "json", "combined" or "logfmt". headers: those whose values are logged, too. sample_ratio: of requests that went well,
    at once and in less than slow_s seconds (None for however long); all others are written.
    """

    format: str = "json"
    headers: HeaderNames = NO_HEADERS
    sample_ratio: float = 1.0
    slow_s: float | None = None


class AccessLog:
    """The access log of one worker, owned by its Edge; exchanges, admin pages and the server's refusals are written to it.

    client_of: gives the address of the client, which is not the peer behind a trusted proxy. Where it goes, and how, may change
    with every configuration (`write_to`); at first it goes nowhere.
    """

    def __init__(self, client_of: Callable[[Request], bytes] = lambda request: request.peer, rng: Random | None = None) -> None:
        self._client_of = client_of
        self._rng = rng or Random()
        self._output: LineOutput | None = None
        self._counted = 0
        self._ended: list[Exchange | OwnLine] = []
        self._use(LogStyle())
        _LOGS.add(self)

    def _use(self, style: LogStyle) -> None:
        self._style = style
        self._format: LineFormat
        if style.format == "combined":
            self._format = CombinedLines(self._client_of)
        elif style.format == "logfmt":
            self._format = LogfmtLines(self._client_of, style.headers)
        else:
            self._format = JsonLines(self._client_of, style.headers)
        self._samples = style.sample_ratio < 1.0
        self._left = gap(style.sample_ratio, self._rng)

    # ---- where it goes ----

    def write_to(self, output: LineOutput | None, style: LogStyle = LogStyle()) -> None:
        """Write there and so from here on, None for nowhere; the output before is closed."""
        if output is not self._output:
            self.close()
            self._output = output
        if style != self._style:
            self._write_down()
            self._use(style)

    def reopen(self) -> None:
        """Go on in a new file, if the old one was moved away."""
        self._write_down()
        if self._output is not None:
            self._output.reopen()

    def report_trouble(self, edge_row: Learned) -> None:
        """Log what keeps lines from being written, once, and count lines lost here or on the console; called once a second."""
        if self._output is not None and (trouble := self._output.trouble()):
            log.error("%s", trouble)
        if lost := LOST.total - self._counted:
            self._counted += lost
            edge_row.add(LOG_LINES_LOST, lost)

    def flush(self, wait_s: float) -> bool:
        """Wait until all is written, for so many seconds at most."""
        self._write_down()
        return self._output is None or self._output.flush(wait_s)

    def close(self) -> None:
        """Write no more."""
        self._write_down()
        old, self._output = self._output, None
        if old is not None:
            old.close()

    # ---- what goes there ----

    def write_refused(self, request_id: str, peer: bytes, error: EdgeError) -> None:
        """Log a request that the server refused before anybody saw it."""
        self._write_own(OwnLine(request_id, peer, error.status, None, error.detail))

    def write_admin(self, request: Request, request_id: str, status: int) -> None:
        """Log an answer of the admin pages."""
        self._write_own(OwnLine(request_id, self._client_of(request), status, request, None))

    def write_exchange(self, exchange: Exchange) -> None:
        """Log a request that has been forwarded, or could not be, unless it is one of many and not sampled."""
        if self._samples and self._is_usual(exchange):
            self._left -= 1
            if self._left >= 0:
                return
            self._left = gap(self._style.sample_ratio, self._rng)
        pending = self._ended
        pending.append(exchange)
        if len(pending) == 1:
            self._begin_round()
        elif len(pending) >= MOST_TOGETHER:
            self._write_down()

    def _is_usual(self, exchange: Exchange) -> bool:
        attempts, slow_s = exchange.attempts, self._style.slow_s
        return (
            exchange.status < FIRST_ERROR
            and exchange.error is None
            and attempts.tries < 2
            and (slow_s is None or exchange.duration_s < slow_s)
        )

    def _write_own(self, line: OwnLine) -> None:
        self._ended.append(line)
        if len(self._ended) == 1:
            self._begin_round()

    def _begin_round(self) -> None:
        """Have all that ends in this round of the loop written down when it is over."""
        get_hub().loop.run_callback(self._write_down)

    def _write_down(self) -> None:
        ended, self._ended = self._ended, []
        output = self._output
        if not ended or output is None:
            return
        form = self._format
        stamp = form.stamp(time.time())
        try:
            lines = form.lines(stamp, ended)
        except Exception:  # of one of them; the others have their lines
            lines = [text for one in ended for text in _line_of(form, stamp, one)]
        output.write("".join(lines))


def _line_of(form: LineFormat, stamp: str, ended: Exchange | OwnLine) -> list[str]:
    try:
        return form.lines(stamp, [ended])
    except Exception:
        log.exception("a line of the access log could not be written")
        LOST.add(1)
        return []


_LOGS: WeakSet[AccessLog] = WeakSet()


class LineOutput:
    """Where an AccessLog writes; part of a `Setup`. target: a file, or True for standard output. rotation: of the file.

    Raises OSError for a file that can't be opened.
    """

    def __init__(self, target: bool | str, rotation: Rotation | None = None) -> None:
        self._writer = LogWriter(target, rotation=rotation) if isinstance(target, str) else None
        self._told: OSError | None = None

    def write(self, lines: str) -> None:
        """Write one or several lines, their line breaks included."""
        if self._writer is not None:
            self._writer.write(lines.encode("utf-8", "replace"))
            return
        try:
            sys.stdout.write(lines)
            sys.stdout.flush()
        except (OSError, ValueError):
            pass

    def reopen(self) -> None:
        """Go on in a new file now, if the old one was moved away (which is noticed without this, too, at the next line)."""
        if self._writer is not None:
            self._writer.reopen()

    def trouble(self) -> str | None:
        """Say what is wrong, once for each kind of trouble, or that it is over; None when there is nothing new to say."""
        writer = self._writer
        if writer is None:
            return None
        now = writer.trouble or writer.cannot_follow or writer.cannot_rotate
        told, self._told = self._told, now
        if now is None:
            return f"the access log is written again ({writer.lost} lines were lost)" if told is not None else None
        if told is not None and told.errno == now.errno:
            return None
        if writer.trouble is not None:
            return f"the access log cannot be written: {now.strerror}; its lines are lost, and counted"
        if now is writer.cannot_rotate:
            return f"the access log cannot be moved aside, and goes on growing: {now.strerror}"
        return f"the access log was moved away and cannot be opened anew: {now.strerror}; the old file goes on"

    def flush(self, wait_s: float) -> bool:
        """Wait until all is written, for so many seconds at most."""
        return self._writer is None or self._writer.flush(wait_s)

    def close(self) -> None:
        """Close the file, when what is there has been written."""
        if self._writer is not None:
            self._writer.close()


def _last_round() -> None:
    for one in list(_LOGS):
        one._write_down()


atexit.register(_last_round)  # before those of log_writer.py, which has registered its own before
