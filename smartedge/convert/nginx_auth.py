"""nginx.conf: `auth_request`, as `forward_auth` of a route.

Where the answer could be another one than nginx gets, nothing is made of it: whoever nginx keeps out does not come in.
Source: https://nginx.org/en/docs/http/ngx_http_auth_request_module.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from smartedge.convert.draft import Document, seconds_of
from smartedge.convert.words import Directive

_SAYS_NOTHING: Final = re.compile(
    r"internal|proxy_pass(_request_body)?|proxy_set_header|proxy_(read|connect|send)_timeout|access_log|log_not_found|"
    r"proxy_(http_version|buffer\w*|busy_\w+|cache\w*|no_cache|redirect)"
)
_TOLD: Final = {
    "content-length": ("",),
    "content-type": ("",),
    "connection": None,
    "upgrade": None,
    "x-real-ip": None,
    "x-forwarded-for": None,
    "x-forwarded-proto": None,
    "x-forwarded-host": None,
    "x-forwarded-uri": ("$request_uri",),
    "x-forwarded-method": ("$request_method",),
}
"""Fields of the question that are told here as well, or that no client can tell; with the values that this is true of."""


def forward_auth(
    path: str, inside: Callable[[Directive], Sequence[Directive]], outer: Sequence[Directive], upstreams: Mapping[str, Document]
) -> Document | str:
    """Make a `forward_auth` of the location that is asked; or say why that cannot be. inside: what a location's block says."""
    found = [one for one in outer if one.name == "location" and one.arguments in ([path], ["=", path], ["^~", path])]
    if len(found) != 1:
        return f"who is asked is no location of this server ({path})"
    for one in found[0].block or []:
        if _SAYS_NOTHING.fullmatch(one.name) is None:
            return f"{one.name} of {path} has no counterpart here"
    block = inside(found[0])
    passes = [one.arguments[0] for one in block if one.name == "proxy_pass" and one.arguments]
    if len(passes) != 1 or "$" in passes[0]:
        return f"{path} is passed on to nobody who is known here"
    parts = urlsplit(passes[0])
    place = f"{parts.scheme}://{parts.netloc}"
    if parts.netloc in upstreams:
        backends = upstreams[parts.netloc]["backends"]
        url = backends[0] if isinstance(backends[0], str) else backends[0]["url"]
        if len(backends) != 1 or not url.startswith("http://"):
            return "who is asked has one address of http here"
        place = f"{parts.scheme}://{url.removeprefix('http://')}"
    if parts.netloc.startswith("unix:") or "unix:" in place:
        return "who is asked has one address of http here"
    for one in block:
        if one.name == "proxy_set_header" and one.arguments[0].lower() != "host":
            name, value = one.arguments[0], " ".join(one.arguments[1:])
            values = _TOLD.get(name.lower(), ())
            if values is not None and value not in values:
                return (
                    f"who is asked is told X-Forwarded-Uri and X-Forwarded-Method here, and any {name} is the client's own word"
                )
    said: Document = {"url": place + (parts.path or path)}
    times = [one.arguments[0] for one in block if one.name == "proxy_read_timeout" and one.arguments]
    return said | ({"timeout_s": seconds_of(times[-1])} if times else {})


def copied_headers(block: Sequence[Directive]) -> dict[str, str]:
    """Say which fields of the answer go to the backend under their own name: by the variables that hold them."""
    held = {}
    for one in block:
        if one.name == "auth_request_set" and len(one.arguments) == 2:
            variable, value = one.arguments
            if value.startswith("$upstream_http_"):
                held[variable] = value.removeprefix("$upstream_http_")
    return {
        one.arguments[1]: one.arguments[0]
        for one in block
        if one.name == "proxy_set_header"
        and len(one.arguments) == 2
        and held.get(one.arguments[1]) == one.arguments[0].lower().replace("-", "_")
    }
