"""The console: standard output and standard error that nobody has to wait for, and log lines with a time and a level.

`install` puts streams of ours in the place of `sys.stdout` and `sys.stderr`, so that every `print`, every traceback and what
libraries log goes through a `LogWriter`. It is for programs whose process is ours: `smartedge run`, and a worker of gunicorn.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from typing import Any

from smartedge.http.resources import QUIET_S, is_own, reason
from smartedge.observe.log_writer import LAST_WORDS_S, LogWriter, flush_all

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""What `log_level` may be."""

_OURS = logging.getLogger("smartedge")


class ConsoleStream(io.TextIOBase):
    """Standard output or error over a `LogWriter`; put there by `install`.

    Whole lines go out at once, the rest with the next line break or `flush`.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, writer: LogWriter, fileno: int) -> None:
        self._writer = writer
        self._fileno = fileno
        self._part = ""
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        """Take text; never fails, never waits."""
        whole, found, rest = text.rpartition("\n")
        if not found:
            self._part += text
        else:
            part, self._part = self._part, rest
            self._writer.write(f"{part}{whole}\n".encode("utf-8", "replace"))
        return len(text)

    def flush(self) -> None:
        """Have the part of a line written that there is."""
        if self._part:
            part, self._part = self._part, ""
            self._writer.write(part.encode("utf-8", "replace"))

    def stand_by(self) -> None:
        """Have its writer's thread there for good."""
        self._writer.stand_by()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fileno

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return os.isatty(self._fileno)

    def writable(self) -> bool:
        """Say yes."""
        return True


class _Bytes:
    """A ConsoleStream's `buffer`, as programs know that of `sys.stdout`."""

    def __init__(self, stream: ConsoleStream) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        """Have them written."""
        self._stream.flush()


def install() -> None:
    """Replace `sys.stdout` and `sys.stderr`, and have those who log to them log to the new ones; a second call does nothing.

    Where both lead to the same place they share a writer, so that lines stay in their order.
    """
    if isinstance(sys.stdout, ConsoleStream):
        return
    writers: list[tuple[os.stat_result, LogWriter]] = []
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        try:
            there = os.fstat(descriptor)
        except OSError:  # it was closed before we came: nobody hears us
            descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            there = os.fstat(descriptor)
        writer = next((writer for known, writer in writers if os.path.samestat(known, there)), None)
        if writer is None:
            writer = LogWriter(descriptor)
            writers.append((there, writer))
        old, new = getattr(sys, name), ConsoleStream(writer, descriptor)
        setattr(sys, name, new)
        for handler in _stream_handlers():
            if handler.stream is old:
                handler.setStream(new)


def stand_by() -> None:
    """Have what writes the console there for good, in this process: when memory runs out it could not be started to say so."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, ConsoleStream):
            stream.stand_by()


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", [])]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler) and hasattr(handler, "setStream")]


def flush(wait_s: float = LAST_WORDS_S) -> None:
    """Have everything written that was said, as far as `wait_s` seconds go: before the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    flush_all(wait_s)


def say(text: str) -> None:
    """Print one of the console's lines on standard output, as it is; what can't be printed is no reason to stop."""
    try:
        print(text, flush=True)
    except (OSError, ValueError):
        pass


class LogHandler(logging.Handler):
    """Writes log records to standard error; put there by `log_at`.

    A line is `2026-11-26T17:05:09.123Z WARNING backend ejected: ...`, in UTC (RFC 3339). What failed because the system has
    no more to give (descriptors, memory) has no traceback, for it may be any line of ours; it is said once a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._short_at: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what can't be written is no reason to stop."""
        if record.exc_info and (error := record.exc_info[1]) is not None and is_own(error):
            key = record.name, record.msg
            if record.created - self._short_at.get(key, -QUIET_S) < QUIET_S:
                return
            self._short_at[key] = record.created
            text = f"{record.getMessage()}: {reason(error)}"
            record = logging.makeLogRecord({**vars(record), "msg": text, "args": None, "exc_info": None, "exc_text": None})
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError, MemoryError):
            pass

    def format(self, record: logging.LogRecord) -> str:
        """Make a line of a record, and more lines of its traceback."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {super().format(record)}"


def log_at(level: str) -> None:
    """Log from this level on, by a handler of ours unless the program that we are part of has some of its own."""
    if not _OURS.hasHandlers():
        _OURS.addHandler(LogHandler())
    if any(isinstance(handler, LogHandler) for handler in _OURS.handlers):
        _OURS.setLevel(LEVELS[level])
