"""The terminal of `smartedge top`: styled lines onto it, keys from it. The standard library's curses knows terminals."""

from __future__ import annotations

import curses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from smartedge.cli.paint import wants_colour
from smartedge.cli.top_view import Line

_COLOURS: Final = {"good": curses.COLOR_GREEN, "warn": curses.COLOR_YELLOW, "bad": curses.COLOR_RED}
_KEYS: Final = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right",
    curses.KEY_PPAGE: "pageup",
    curses.KEY_NPAGE: "pagedown",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace",
    curses.KEY_RESIZE: "resize",
}
_CHARACTERS: Final = {"\n": "enter", "\r": "enter", "\x1b": "esc", "\x7f": "backspace", "\b": "backspace", "\x03": "q"}


class Screen:
    """A terminal in full-screen mode; made by `full_screen`, used by the command."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._styles = {"dim": curses.A_DIM, "bold": curses.A_BOLD, "selected": curses.A_REVERSE}
        if curses.has_colors() and wants_colour(os.environ) is not False:
            curses.use_default_colors()
            for number, (style, colour) in enumerate(_COLOURS.items(), start=1):
                curses.init_pair(number, colour, -1)
                self._styles[style] = curses.color_pair(number)

    @property
    def size(self) -> tuple[int, int]:
        """Characters in a line, and lines."""
        height, width = self._window.getmaxyx()
        return width, height

    def show(self, lines: Sequence[Line]) -> None:
        """Draw all of it anew."""
        self._window.erase()
        for number, line in enumerate(lines):
            self._window.move(number, 0)
            for piece in line:
                try:
                    self._window.addstr(piece.text, self._styles.get(piece.style, curses.A_NORMAL))
                except curses.error:  # the last cell of the last line: the cursor has nowhere to go
                    break
        self._window.refresh()

    def key(self, wait_s: float) -> str | None:
        """Return the next key by its name or its character; None if there is none for so long."""
        self._window.timeout(max(0, int(wait_s * 1000)))
        try:
            pressed = self._window.get_wch()
        except curses.error:
            return None
        if isinstance(pressed, int):
            return _KEYS.get(pressed)
        return _CHARACTERS.get(pressed, str(pressed))


@contextmanager
def full_screen() -> Iterator[Screen]:
    """Take the terminal over, and give it back as it was. Raises curses.error where there is none that can do it."""
    os.environ.setdefault("ESCDELAY", "25")
    window = curses.initscr()
    try:
        curses.noecho()
        curses.cbreak()
        window.keypad(True)
        try:
            curses.start_color()
            curses.curs_set(0)
        except curses.error:
            pass
        yield Screen(window)
    finally:
        window.keypad(False)
        curses.nocbreak()
        curses.echo()
        curses.endwin()
