"""nginx.conf: a block `upstream`, made into a service.

Source: https://nginx.org/en/docs/http/ngx_http_upstream_module.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from smartedge.convert.draft import Document, Draft, backend_of, seconds_of
from smartedge.convert.words import Directive

_STRATEGIES: Final = {"least_conn": "least_requests", "random": "random", "least_time": "ewma"}


def read_upstream(block: Sequence[Directive], done: Collection[str], draft: Draft) -> Document:
    """Make a service of a block `upstream`; what is in `done` needs no word."""
    service: Document = {"backends": []}
    for one in block:
        if one.name == "server" and one.arguments:
            service["backends"].append(_member(one, service, draft))
        elif one.name in _STRATEGIES:
            service["strategy"] = _STRATEGIES[one.name]
        elif one.name == "ip_hash":
            service |= {"strategy": "consistent_hash", "hash": {"by": "client"}}
        elif one.name == "hash" and one.arguments and (by := _hash_key(one.arguments[0])):
            service |= {"strategy": "consistent_hash", "hash": {"by": by}}
        elif one.name == "sticky" and one.arguments[:1] == ["cookie"] and len(one.arguments) > 1:
            service["sticky"] = {"cookie": one.arguments[1]}
        elif one.name not in done:
            draft.leave_out(one.line, str(one), "has no counterpart here")
    return service


def _member(one: Directive, service: Document, draft: Draft) -> str | Document:
    address, *rest = one.arguments
    keys: Document = {}
    for word in rest:
        name, _, value = word.partition("=")
        if name == "weight":
            keys["weight"] = int(value)
        elif name == "max_conns":
            keys["max_in_flight"] = int(value)
        elif name == "down":
            keys["state"] = "disabled"
        elif name == "backup":
            keys["priority"] = 1
        elif name == "max_fails" and value != "0":
            service.setdefault("breaker", {})["failures"] = int(value)
        elif name == "fail_timeout" and seconds_of(value) > 0:
            service.setdefault("breaker", {})["open_s"] = seconds_of(value)
        elif name == "slow_start":
            service["slow_start_s"] = seconds_of(value)
        else:
            draft.leave_out(one.line, f"server {address} {word}", "has no counterpart here")
    return backend_of(url_of(address), **keys)


def url_of(address: str) -> str:
    """Write an address of nginx as the URL of a backend."""
    if "unix:" in address:
        return "unix:" + address.partition("unix:")[2].rstrip(":")
    return address if "://" in address else f"http://{address}"


def secured(backend: Any) -> Any:
    """Write a backend with https."""
    if isinstance(backend, str):
        return backend.replace("http://", "https://", 1)
    return backend | {"url": backend["url"].replace("http://", "https://", 1)}


def _hash_key(text: str) -> str | None:
    """Say what a request is known by: the variables that have a counterpart."""
    if text in ("$remote_addr", "$binary_remote_addr"):
        return "client"
    if text in ("$uri", "$request_uri"):
        return "path"
    if found := re.fullmatch(r"\$(http|cookie)_(\w+)", text):
        return f"{'header' if found[1] == 'http' else 'cookie'}:{found[2].replace('_', '-') if found[1] == 'http' else found[2]}"
    return None
