"""Single values of the configuration: text in, normal form out, or a ValueError saying what would be right.

Pure functions on the standard library; nothing is resolved or opened. No message holds userinfo or a query,
where people put passwords and tokens: every value in one went through `shown`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

LEAST_SECRET_BYTES = 16
"""A shorter secret could be guessed."""

MOST_SOCKET_PATH = 107
"""What a unix socket's address has room for (unix(7)), with a zero behind it."""

MOST_URLS = 32_768
"""So many URLs are remembered: of more backends than that, asked for in turn, none would ever be found. An edge has 16,383."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_FRAMING = re.compile(r"(?i)connection|content-length|expect|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHOWN_CHARACTERS = 80
_SOCKET_PATH_BYTES = 107
"""sun_path of unix(7), without its last byte."""


class Origin(NamedTuple):
    """What a backend URL points to: scheme, host in lower case without brackets, the port really used, the base path or "".

    Of a unix socket, host is its path, and port 0.
    """

    scheme: str
    host: str
    port: int
    base: str = ""


def shown(value: object) -> str:
    """A value as it may stand in a message: one short line, safe for a terminal, without a secret.

    Whatever stands before an @ is hidden, and all from the first ? or # on; lists and objects are only named.
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if not isinstance(value, str):
        return _cut(json.dumps(value))
    return f'"{printable(value)}"'


def printable(text: str) -> str:
    """Text from a file as part of a message: no secret, no control character, no endless line."""
    text = re.sub(r"(?s)^(.*?://)?.*@", r"\1***@", text)
    text = re.sub(r"(?s)[?#].+$", "...", text)
    return _cut(escaped(text))


def escaped(text: str) -> str:
    """Text without control characters and lone surrogates: a terminal shows it, and obeys nothing in it."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def label(text: str) -> str:
    """An id or a zone: it becomes a label of metrics and part of log lines, so 1 to 64 plain characters."""
    if not _LABEL.fullmatch(text):
        raise ValueError(f"must be 1 to 64 of the characters A-Z a-z 0-9 . _ -, not {shown(text)}")
    if text == "none":
        raise ValueError('must not be "none", which stands for no backend in the metrics')
    return text


def field_name(text: str) -> str:
    """The name of a header field or a cookie: a token (RFC 9110 section 5.6.2, RFC 6265 section 4.1.1)."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"must be a name of 1 to 64 letters, digits or - . _ and the like, not {shown(text)}")
    return text


def cookie_path(text: str) -> str:
    """The path of a cookie (RFC 6265 section 4.1.1): it starts with a slash, and ends no attribute."""
    if not text.startswith("/") or any(not "!" <= c <= "~" or c == ";" for c in text):
        raise ValueError(f'must be a path such as "/app", in plain ASCII without spaces and semicolons, not {shown(text)}')
    return text


def cookie_domain(text: str) -> str:
    """The domain of a cookie (RFC 6265 section 4.1.2.3): a host name in lower case; a dot before it says nothing."""
    name = text.removeprefix(".").lower()
    if len(name) > 253 or not HOST.fullmatch(name) or name.endswith(".") or re.fullmatch(r"[0-9.]+", name):
        raise ValueError(f'must be a host name such as "example.com", not {shown(text)}')
    return name


def must_be_secure(cookie: str | None) -> bool:
    """Whether browsers take a cookie of this name by https only (RFC 6265bis section 4.1.3)."""
    return (cookie or "").lower().startswith(("__secure-", "__host-"))


def hash_by(text: str) -> str:
    """What a request is known by: `client`, `path`, `header:NAME` or `cookie:NAME`."""
    kind, separator, name = text.partition(":")
    if separator and kind in ("header", "cookie"):
        return f"{kind}:{field_name(name)}"
    if text not in ("client", "path"):
        raise ValueError(f'must be "client", "path", "header:NAME" or "cookie:NAME", not {shown(text)}')
    return text


def rate_by(text: str) -> str:
    """What a client is known by: `client` or `header:NAME`."""
    kind, separator, name = text.partition(":")
    if separator and kind == "header":
        return f"{kind}:{field_name(name)}"
    if text != "client":
        raise ValueError(f'must be "client" or "header:NAME", not {shown(text)}')
    return text


def labels(found: object) -> tuple[tuple[str, str], ...]:
    """A backend's labels, for strategies and people to tell backends apart by: up to 16, in the order of their names."""
    if not isinstance(found, dict):
        raise ValueError(f"must be an object, not {shown(found)}")
    if len(found) > 16:
        raise ValueError(f"must hold at most 16 labels, not {len(found)}")
    for name, text in found.items():
        if not _LABEL.fullmatch(name):
            raise ValueError(f"must have names of 1 to 64 of the characters A-Z a-z 0-9 . _ -, not {shown(name)}")
        if not isinstance(text, str) or len(text) > 256 or not text.isprintable():
            raise ValueError(f"must have texts of one line, up to 256 characters, as values, not {shown(text)}")
    return tuple(sorted(found.items()))


def line(text: str) -> str:
    """A file name or another free text: one line that is not empty."""
    if not text.strip() or not text.isprintable():
        raise ValueError(f"must be a text of one line that is not empty, not {shown(text)}")
    return text


@lru_cache(MOST_URLS)  # each is asked for several times while a file is read, and at every reload
def backend_url(text: str) -> str:
    """A backend's URL in normal form: scheme and host in lower case, the port as written, no last slash.

    `http://` or `https://`, a host, perhaps a port, perhaps a path that goes before every request's; or `unix:/run/app.sock`,
    perhaps with such a path behind a colon. No user, no query: secrets have no place here.
    """
    if any(not "!" <= c <= "~" for c in text):
        raise ValueError(f"{shown(text)} may hold only printable ASCII characters{_ascii_form(text)}")
    if text[:5].lower() == "unix:":
        return _socket_url(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError(f'{shown(text)} has no scheme; a backend looks like "http://localhost:8081"')
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{shown(text)} must start with http:// or https://, or with unix: for a socket")
    authority, _, path = rest.partition("/")
    if "@" in authority:
        raise ValueError(f"{shown(text)} must not hold a user name or password")
    if "?" in rest or "#" in rest:
        raise ValueError(f"{shown(text)} must not have a query or a fragment")
    if authority.lower() == "unix:":  # as nginx writes it
        raise ValueError(f'{shown(text)} is no URL of a socket; write "unix:/{printable(path)}"')
    host, port = host_and_port(authority, text)
    if port == 0:
        raise ValueError(f"{shown(text)} has port 0, where nothing can be reached")
    host = f"[{host}]" if ":" in host else host
    base = _base_path(f"/{path}", text)
    return f"{scheme}://{host}{base}" if port is None else f"{scheme}://{host}:{port}{base}"


@lru_cache(MOST_URLS)
def origin(url: str) -> Origin:
    """Take a URL that `backend_url` gave apart; two URLs with the same origin are the same backend."""
    if url.startswith("unix:"):
        path, _, base = url[5:].partition(":")
        return Origin("unix", path, 0, base)
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, port = host_and_port(authority, url)
    return Origin(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port, slash + path)


def _socket_url(text: str) -> str:
    """A socket's URL in normal form: `unix:` and an absolute path, then perhaps a colon and a base path, as in nginx."""
    if "?" in text or "#" in text or "@" in text:
        raise ValueError(f"{shown(text)} must not hold any of the characters ? # @")
    path, colon, base = text[5:].partition(":")
    path = path[2:] if path.startswith("///") else path
    if not path.startswith("/") or path.startswith("//") or path.endswith("/"):
        raise ValueError(f'{shown(text)} needs the whole path of a socket, such as "unix:/run/app.sock"')
    if len(path) > _SOCKET_PATH_BYTES:
        raise ValueError(f"{shown(text)} is longer than the {_SOCKET_PATH_BYTES} bytes that the system allows a socket's path")
    if colon and not base.startswith("/"):
        raise ValueError(f'{shown(text)} needs a path after the colon, such as "unix:/run/app.sock:/app"')
    base = _base_path(base or "/", text)
    return f"unix:{path}:{base}" if base else f"unix:{path}"


def _base_path(path: str, whole: str) -> str:
    """The path before every request's, without its last slash: it is put there as it is, so there is nothing to resolve in it."""
    path = path.removesuffix("/")
    segments = path.split("/")[1:]
    if not re.fullmatch(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*", path) or "." in segments or ".." in segments:
        raise ValueError(f"{shown(whole)} has a path that is not like /app or /app/v1 (no empty segments, no . and ..)")
    return path


def address(text: str) -> tuple[str, int]:
    """Where to listen, HOST:PORT, as (host, port): IPv6 without brackets; for port 0 the system chooses."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f'{shown(text)} is not HOST:PORT, such as "127.0.0.1:8080"')
    if text[:1] == ":" and text[1:].isdigit():
        raise ValueError(f'{shown(text)} has no host; write "0.0.0.0{printable(text)}" for every interface')
    if text.isdigit():
        raise ValueError(f'{shown(text)} has no host; write "127.0.0.1:{printable(text)}"')
    host, port = host_and_port(text, text)
    if port is None:
        raise ValueError(f'{shown(text)} has no port; an address looks like "127.0.0.1:8080"')
    return host, port


def bind_text(text: str) -> str:
    """`address` in normal form, as text."""
    host, port = address(text)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def admin_address(text: str) -> str:
    """`bind_text`, or unix:/PATH, in normal form."""
    kind, separator, path = text.partition(":")
    if kind != "unix" or not separator:
        return bind_text(text)
    if not path.startswith("/") or not path.isprintable() or path.endswith("/"):
        raise ValueError(f'{shown(text)} has no absolute path; a socket looks like "unix:/run/smartedge/admin.sock"')
    if len(path.encode()) > MOST_SOCKET_PATH:
        raise ValueError(f"{shown(text)} is too long: the path of a socket has at most {MOST_SOCKET_PATH} bytes")
    return text


def listen_name(text: str) -> str | tuple[str, int]:
    """Return what to listen on for the text of `admin_address`: the path of a unix socket, or host and port."""
    return text.removeprefix("unix:") if text.startswith("unix:") else address(text)


def network(text: str) -> str:
    """An address or a CIDR range in normal form: "10.0.0.0/8", "::1/128"."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{shown(text)} is not an address or a range such as "10.0.0.0/8"') from None
    raise ValueError(f'{shown(text)} has bits set after its prefix; the range is "{wider}"')


def health_path(text: str) -> str:
    """The target of a probe: it starts with a slash and goes into a request line as it is."""
    if not text.startswith("/") or any(not "!" <= c <= "~" for c in text) or "#" in text:
        raise ValueError(f'must be a path such as "/health", in plain ASCII without spaces, not {shown(text)}')
    return text


def probe_host(text: str) -> str:
    """What a probe's Host field says: a host, perhaps a port."""
    if any(not "!" <= c <= "~" for c in text) or "/" in text or "@" in text:
        raise ValueError(f'must be a host, perhaps with a port, such as "shop.example", not {shown(text)}')
    host_and_port(text, text)
    return text


def probe_body(text: str) -> str:
    """A text that a probe's answer must hold."""
    if not 1 <= len(text) <= 1000:
        raise ValueError(f"must be a text of 1 to 1000 characters, not of {len(text)}")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("must be a string of whole characters")
    return text


def probe_headers(found: object) -> tuple[tuple[str, str], ...]:
    """The fields that a probe has besides its own, up to 32. No message shows a value, which may be a secret."""
    if not isinstance(found, dict):
        raise ValueError(f"must be an object, not {shown(found)}")
    if len(found) > 32:
        raise ValueError(f"must hold at most 32 fields, not {len(found)}")
    for name, text in found.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"must have names of 1 to 64 letters, digits or - . _ and the like, not {shown(name)}")
        if name.lower() == "host":
            raise ValueError('must not have Host; that is the key "host" beside it')
        if _FRAMING.fullmatch(name):
            raise ValueError(f"must not have {name}, which is the edge's own affair")
        if not isinstance(text, str) or len(text) > 4096 or any(not (" " <= c <= "~" or "\xa0" <= c <= "\xff") for c in text):
            raise ValueError(f"must have a text of one line, up to 4096 characters of Latin-1, as the value of {name}")
    names = [name.lower() for name in found]
    if len(set(names)) != len(names):
        raise ValueError("must not have a field twice; its name is the same in upper and lower case")
    return tuple((name, text.strip()) for name, text in found.items())


def status_item(value: object) -> int | str:
    """One expected status: a code (204), a class ("2xx") or a range ("200-299"); classes become ranges."""
    low = high = 0
    if isinstance(value, int) and not isinstance(value, bool):
        low = high = value
    elif isinstance(value, str) and re.fullmatch(r"[1-5][xX]{2}", value):
        low = int(value[0]) * 100
        high = low + 99
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{3}-[0-9]{3}", value):
        low, high = int(value[:3]), int(value[4:])
    if not 100 <= low <= high <= 599:
        raise ValueError(f'must be a status like 200, a class like "2xx" or a range like "200-299", not {shown(value)}')
    return low if low == high else f"{low}-{high}"


def status_codes(items: Iterable[int | str]) -> frozenset[int]:
    """Every code that the items of `status_item` stand for."""
    codes: set[int] = set()
    for item in items:
        low, _, high = str(item).partition("-")
        codes.update(range(int(low), int(high or low) + 1))
    return frozenset(codes)


def status_ranges(items: Iterable[int | str]) -> tuple[int | str, ...]:
    """The shortest way to write the same codes, in order: [200, "201-299", 204] is ["200-299"]."""
    ranges: list[list[int]] = []
    for code in sorted(status_codes(items)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return tuple(low if low == high else f"{low}-{high}" for low, high in ranges)


def host_and_port(authority: str, whole: str) -> tuple[str, int | None]:
    """Split host[:port] (RFC 3986 section 3.2): the host in lower case, an IPv6 address without brackets."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and rest[0] != ":"):
            raise ValueError(f'{shown(whole)} is not like "[::1]:8080"')
        separator, port = rest[:1], rest[1:]
    else:
        host, separator, port = authority.partition(":")
        if ":" in port:
            raise ValueError(f'{shown(whole)} needs an IPv6 address in brackets, like "[::1]:8080"')
    if separator and not (port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{shown(whole)} needs a port from 1 to 65535 after the colon")
    _check_host(host, whole, bracketed=authority.startswith("["))
    return host.lower(), int(port) if separator else None


def _check_host(host: str, whole: str, *, bracketed: bool) -> None:
    """Refuse what can be neither a name nor an address; only digits and dots must be a whole IPv4 address."""
    if not host:
        raise ValueError(f"{shown(whole)} has no host")
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{shown(whole)} has no valid IPv6 address between its brackets") from None
        if "%" in host:
            raise ValueError(f"{shown(whole)} must not name a network interface in its address")
    elif re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f"{shown(whole)} has no valid IPv4 address") from None
    elif len(host) > 253 or not HOST.fullmatch(host):
        raise ValueError(f"{shown(whole)} has a host name with a character or length that names do not have")


def _ascii_form(text: str) -> str:
    """The hint for a host name with letters beyond ASCII: how the same name is written in DNS."""
    host = text.partition("://")[2].partition("/")[0].partition(":")[0]
    if "@" in text or not host or not host.isprintable() or " " in host:
        return ""
    try:
        return f'; the host is "{host.encode("idna").decode("ascii")}" in ASCII'
    except UnicodeError:
        return ""


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
