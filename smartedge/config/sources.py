"""Where settings come from: the file, the `SMARTEDGE_*` variables, the flags of the command line."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import Any

from smartedge.config import values
from smartedge.config.otel import otel_settings
from smartedge.config.problems import MAX_BYTES, ConfigError, Problem, Step, path_text

DEFAULT_PATH = "backends.json"

_PREFIX = "SMARTEDGE_"
_KUBERNETES = re.compile(r"SMARTEDGE_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_[A-Z]+(_(PROTO|PORT|ADDR))?)?)")

_VARIABLES = {
    "backends": "SMARTEDGE_BACKENDS",
    "strategy": "SMARTEDGE_STRATEGY",
    "bind": "SMARTEDGE_BIND",
    "admin_bind": "SMARTEDGE_ADMIN_BIND",
    "http_bind": "SMARTEDGE_HTTP_BIND",
    "workers": "SMARTEDGE_WORKERS",
    "certfile": "SMARTEDGE_CERTFILE",
    "keyfile": "SMARTEDGE_KEYFILE",
    "access_log": "SMARTEDGE_ACCESS_LOG",
    "access_log_format": "SMARTEDGE_ACCESS_LOG_FORMAT",
    "cluster": "SMARTEDGE_CLUSTER",
    "log_level": "SMARTEDGE_LOG_LEVEL",
    "zone": "SMARTEDGE_ZONE",
    "tracing": "SMARTEDGE_TRACING",
}
OTHER_VARIABLES = frozenset(
    (
        "SMARTEDGE_CONFIG",
        "SMARTEDGE_ADMIN_TOKEN",
        "SMARTEDGE_ETCD_PASSWORD",
        "SMARTEDGE_ETCD_USER",
        "SMARTEDGE_NODE",
        "SMARTEDGE_STATE_DIR",
        "SMARTEDGE_STICKY_SECRET",
        "SMARTEDGE_URL",
    )
)
"""Those of ours that are no setting of the file."""

_HANDED_ON = "SMARTEDGE_ROLES"
"""What one arbiter tells the next (cli/serve_many.py); nobody else sets it."""

_SWITCH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


_FOR_DOMAINS: dict[str, Any] = {"bind": "0.0.0.0:443", "http_bind": "0.0.0.0:80", "acme": {"agree_tos": True}}
"""What `--domain` makes of defaults: whoever asks for a host's certificate wants to be found at its usual ports."""


class Overlay:
    """Settings from flags and variables, to be laid over the file's; each remembers the name it was given by.

    An empty variable and a flag that was not given count as absent. The flag `--domain` is short for names in `certificates`,
    and has other defaults (`_FOR_DOMAINS`). Of `tracing` a flag or variable says one key, or a switch; the file, and below it
    OpenTelemetry's variables, say the others.
    """

    def __init__(self, env: Mapping[str, str], overrides: Mapping[str, Any]) -> None:
        self.settings: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._inner_names: dict[tuple[Step, ...], str] = {}
        self._env = env
        for key, variable in _VARIABLES.items():
            if text := env.get(variable, "").strip():
                self._take(key, _split(text) if key == "backends" else text, variable)
        for key, value in overrides.items():
            if value in (None, [], ()):
                continue
            if key == "domain":
                self._defaults = _FOR_DOMAINS
                self._take("certificates", list(value), "--domain")
            else:
                flag = "--backend" if key == "backends" else f"--{key.replace('_', '-')}"
                self._take(key, list(value) if isinstance(value, tuple) else value, flag)

    def over(self, document: object) -> object:
        """Lay the settings over the file's document; what is no object is left for the checks to refuse."""
        if not isinstance(document, dict):
            return document
        merged = {**self._defaults, **document, **self.settings}
        if self._defaults and isinstance(document.get("acme"), dict):
            merged["acme"] = {**self._defaults["acme"], **document["acme"]}
        if merged.get("tracing") not in (None, False):
            merged["tracing"] = self._tracing(document.get("tracing"), merged["tracing"])
        return merged

    def _tracing(self, written: object, said: object) -> object:
        """Put together what is said of `tracing`, which is on: said by a flag or a variable, written in the file."""
        keys: dict[Step, Any] = {}
        for one in (written, said):
            if isinstance(one, str):
                keys["otlp"] = one
            elif isinstance(one, dict):
                keys |= one
            elif one not in (None, True, False):
                return one  # refused by the checks
        if isinstance(said, str) and "tracing" in self._names:
            self._inner_names["tracing", "otlp"] = self._names["tracing"]
        for key, (value, variable) in otel_settings(self._env, to_collector="otlp" in keys).items():
            if key not in keys:
                keys[key] = value
                self._inner_names["tracing", key] = variable
        return keys

    def hides(self, key: Step) -> bool:
        """Whether the file's value of this key does not count."""
        return key in self._names

    def where(self, steps: tuple[Step, ...]) -> str:
        """The path of a problem, beginning with the flag or variable if the value came from one."""
        if steps[:2] in self._inner_names:
            return self._inner_names[steps[:2]] + path_text(steps[2:])
        if steps and steps[0] in self._names and not (steps[0] == "tracing" and steps[1:]):
            return self._names[str(steps[0])] + path_text(steps[1:])
        return path_text(steps)

    def _take(self, key: str, value: Any, name: str) -> None:
        if key in ("access_log", "tracing") and isinstance(value, str):
            value = _SWITCH.get(value.lower(), value)
        if key == "workers" and isinstance(value, str) and value.isdecimal() and value.isascii():
            value = int(value[:9])
        if key in ("log_level", "access_log_format") and isinstance(value, str):
            value = value.lower()
        self.settings[key] = value
        self._names[key] = name


def misspelled(env: Mapping[str, str]) -> list[str]:
    """Say of each SMARTEDGE_* variable that nobody reads that it is none of ours, and which was meant.

    Kubernetes sets SMARTEDGE_PORT, SMARTEDGE_SERVICE_HOST and the like where a service is called smartedge.
    """
    known = {*_VARIABLES.values(), *OTHER_VARIABLES}
    others = [name for name in env if name.startswith(_PREFIX) and name not in known and name != _HANDED_ON]
    found = []
    for name in sorted(others):
        if not _KUBERNETES.fullmatch(name):
            close = difflib.get_close_matches(name.removeprefix(_PREFIX), [one.removeprefix(_PREFIX) for one in known], 1)
            meant = f"; did you mean {_PREFIX}{close[0]}?" if close else ""
            found.append(f"{values.printable(name)} is no variable of ours{meant}")
    return found


def config_path(flag: str | os.PathLike[str] | None, env: Mapping[str, str]) -> str:
    """Which file to read: the flag's, else SMARTEDGE_CONFIG's, else `backends.json` right here."""
    return os.fspath(flag) if flag else env.get("SMARTEDGE_CONFIG") or DEFAULT_PATH


Read = Callable[[str], bytes | None]
"""Reads a file, as `read_file` does."""


def read_file(path: str) -> bytes | None:
    """The file's bytes, or one more than are accepted; None when missing, ConfigError when unreadable."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = Problem("", f"cannot be read: {reason}; name another file with --config or SMARTEDGE_CONFIG")
        raise ConfigError([problem], status=400, origin=path) from None


def is_read_once(path: str | os.PathLike[str]) -> bool:
    """Whether there is a pipe, as a shell makes it of `<(command)`, or a terminal: what was read of it is gone."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def admin_token(env: Mapping[str, str]) -> str | None:
    """The bearer token of SMARTEDGE_ADMIN_TOKEN (RFC 6750 section 2.1), None when it is empty.

    It is a secret, so it is part of no Config and no error.
    """
    token = env.get("SMARTEDGE_ADMIN_TOKEN", "").strip()
    if any(not "!" <= c <= "~" for c in token):
        problem = Problem("SMARTEDGE_ADMIN_TOKEN", "may hold only printable ASCII characters without spaces")
        raise ConfigError([problem], status=422)
    return token or None


def sticky_secret(env: Mapping[str, str]) -> bytes | None:
    """The secret of SMARTEDGE_STICKY_SECRET, None when it is empty; part of no Config and no error, as the token."""
    secret = env.get("SMARTEDGE_STICKY_SECRET", "").strip().encode("utf-8", "surrogateescape")
    if secret and len(secret) < values.LEAST_SECRET_BYTES:
        problem = Problem("SMARTEDGE_STICKY_SECRET", f"must be at least {values.LEAST_SECRET_BYTES} bytes long")
        raise ConfigError([problem], status=422)
    return secret or None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
