"""What each command's exit status means, for docs/commands.md and the manual page; compared with the program by a test.

Of all commands: 2 is not possible (wrong arguments, a wrong file, nobody answers), 130 interrupted (Ctrl-C).
"""

from __future__ import annotations

from typing import Final

_ASKED: Final = {0: "done", 1: "the edge said no"}

EXITS: Final[dict[str, dict[int, str]]] = {
    "run": {0: "it has served, and was told to end, or another program has taken over (SIGUSR2)", 2: "it could not begin"},
    "check": {0: "the file can be used", 2: "it cannot: all that is wrong is named"},
    "config show": {0: "shown"},
    "config schema": {0: "shown"},
    "convert": {
        0: "converted; what could not be taken over is named",
        2: "the file cannot be read, or is of no kind that is known",
    },
    "discover": {0: "the sources answer", 1: "a source fails, or says what nobody would go by"},
    "doctor": {0: "nothing is bad", 1: "something is"},
    "route": {0: "the route is shown"},
    "simulate": {0: "simulated"},
    "plan": {0: "nothing would change", 1: "it would be refused", 2: "something would change, or the edge could not be asked"},
    "confirm": {0: "the configuration on trial stays", 1: "none is on trial, or the edge said no"},
    "rollback": {0: "the edge went back", 1: "there is nothing to go back to, or it cannot be used any more"},
    "history": {0: "shown", 1: "the edge said no"},
    "reload": {0: "the configuration is in use", 1: "it was refused, and nothing changed"},
    "status": {0: "shown", 1: "the edge said no"},
    "cluster": {0: "shown", 1: "the edge said no, or is no node"},
    "drain": {0: "done; with --wait: nothing is in flight any more", 1: "the edge said no, or --timeout is over"},
    "enable": _ASKED,
    "disable": _ASKED,
    "weight": _ASKED,
    "explain": {0: "shown", 1: "the edge said no, or knows no such request"},
    "events": {0: "shown", 1: "the edge said no"},
    "top": {0: "ended by q or Ctrl-C", 1: "the edge said no"},
    "healthcheck": {0: "a backend can serve", 1: "none can, the edge is draining, or nobody answers"},
    "version": {0: "shown"},
    "completion": {0: "shown"},
}
"""By the command's whole name. What has no line for 2 means the same by it as all."""

NO_JSON: Final = {
    "run": "it serves; its access log is JSON",
    "config schema": "it is JSON",
    "completion": "it is a program for the shell",
}
"""The commands without `--json`, and why."""
