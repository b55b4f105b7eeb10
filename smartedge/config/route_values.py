"""Single values of a route: text in, normal form out, or a ValueError saying what would be right. Pure functions.

Hosts and paths get the normal form in which requests are compared with them (http/normal_form.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from smartedge.config import values
from smartedge.config.section import existing_file, where
from smartedge.config.values import shown

PLACEHOLDERS = ("host", "client", "request_id", "service")
"""What the value of a header field may name in braces."""

MOST_TEXT = 65_536

_SERVICE = re.compile(r"[a-z0-9-]{1,63}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_NAMED = re.compile(r"\{([a-z_]+)\}")
_OURS = re.compile(
    r"(?i)connection|content-length|date|expect|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|via|forwarded"
    r"|x-forwarded-(for|host|proto)|x-request-id|x-smartedge-.*"
)
"""Fields that carry the framing, or what the edge itself says."""


def service_name(text: object) -> str:
    """The name of a service, which is part of URLs and metrics."""
    if not isinstance(text, str) or not _SERVICE.fullmatch(text):
        raise ValueError(f"must be the name of a service, 1 to 63 of the characters a-z 0-9 -, not {shown(text)}")
    if text == "none":
        raise ValueError('must not be "none", which stands for no service in the metrics')
    return text


def host(text: str) -> str:
    """A host to compare with: lower case, no port and no last dot, IDN as punycode; `*.` before it is for all names below."""
    if any(c in text for c in "/?#@ ") or not text.isprintable():
        raise ValueError(f'must be a host name such as "shop.example" or "*.shop.example", not {shown(text)}')
    wildcard, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    if "*" in name:
        raise ValueError(f'may have "*" only as its first label, such as "*.shop.example", not {shown(text)}')
    if not name.isascii():
        name = ascii_name(name)
    found, _ = values.host_and_port(name, text)
    found = found.removesuffix(".")
    if wildcard and (":" in found or re.fullmatch(r"[0-9.]+", found)):
        raise ValueError(f"must have a name behind the *, not an address: {shown(text)}")
    return f"[{found}]" if ":" in found else wildcard + found


def ascii_name(name: str) -> str:
    """A host name, perhaps with a port, as DNS and browsers write it (IDNA 2008 after UTS 46)."""
    import idna  # 10 ms, which only those pay who have such names

    label, colon, port = name.partition(":")
    try:
        return idna.encode(label, uts46=True).decode("ascii") + colon + port
    except idna.IDNAError:
        raise ValueError(f"has a host name that DNS cannot have: {shown(name)}") from None


def authority(text: str) -> str:
    """A host to send clients to, perhaps with a port."""
    if any(c in text for c in "/?#@* ") or not text.isprintable():
        raise ValueError(f'must be a host, perhaps with a port, such as "shop.example", not {shown(text)}')
    name = text if text.isascii() else ascii_name(text)
    found, port = values.host_and_port(name, text)
    found = f"[{found}]" if ":" in found else found
    return found if port is None else f"{found}:{port}"


def path(text: str) -> str:
    """A path to compare with, in normal form; what several readers would read in several ways has no place in one."""
    if not text.startswith("/") or not text.isprintable() or any(c in text for c in "?# "):
        raise ValueError(f'must be a path such as "/api", without spaces, ? and #, not {shown(text)}')
    plain = unquote_to_bytes(text)
    if b"\\" in plain or b";" in plain or b"\0" in plain or b"%" in plain or plain.count(b"/") != text.count("/"):
        raise ValueError(
            f"must hold no \\ ; % or NUL, and no slash that is encoded: paths are compared without them, not {shown(text)}"
        )
    segments = plain.split(b"/")
    if b"" in segments[1:-1] or b"." in segments or b".." in segments:
        raise ValueError(f'must have no empty segments and no "." or ".." in it, not {shown(text)}')
    return quote(plain, safe="/!$&'()*+,=:@~")


def new_path(text: str) -> str:
    """A path to send to backends or clients: as it goes into a request line."""
    if not text.startswith("/") or text.startswith("//") or any(not "!" <= c <= "~" or c in "?#\\" for c in text):
        raise ValueError(f'must be a path such as "/v2", in plain ASCII without spaces, ? and #, not {shown(text)}')
    return text


def method(text: str) -> str:
    """A method: a token, in capitals as all registered ones are."""
    if not _TOKEN.fullmatch(text) or text != text.upper() or text == "CONNECT":
        raise ValueError(f'must be a method such as "GET", in capitals, not {shown(text)}')
    return text


def conditions(names_of: str) -> Callable[[object], tuple[tuple[str, str], ...]]:
    """Return what reads `{"NAME": "text"}` or `{"NAME": "~regex"}`; names_of: "field" (of a header) or "query"."""

    def read(found: object) -> tuple[tuple[str, str], ...]:
        for name, text in _pairs(found, 16):
            if names_of == "field" and (not _TOKEN.fullmatch(name) or name.lower() == "host"):
                raise ValueError(f"must have names of header fields (for Host there is the key host), not {shown(name)}")
            if not isinstance(text, str) or any("\ud800" <= c <= "\udfff" for c in name + text):
                raise ValueError(f"must have a text as the value of {shown(name)}, not {shown(text)}")
            if text.startswith("~"):
                _check_regex(text[1:], name)
        return _distinct(found, fold=names_of == "field")

    return read


def regex(text: str) -> str:
    """A regular expression that is looked for in paths."""
    if not text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"must be a regular expression of whole characters, not {shown(text)}")
    _check_regex(text)
    return text


def _check_regex(pattern: str, name: str | None = None) -> None:
    try:
        re.compile(pattern.encode())
    except (re.error, OverflowError, RecursionError) as error:
        where = "" if name is None else f" for {shown(name)}"
        raise ValueError(f"has a regular expression that is none{where}: {error}") from None


def header_values(found: object) -> tuple[tuple[str, str], ...]:
    """Fields to set or add, `{"NAME": "text with {host}"}`."""
    for name, text in _pairs(found, 64):
        header_name(name)
        if not isinstance(text, str) or len(text) > 4096 or any(not (" " <= c <= "~" or "\xa0" <= c <= "\xff") for c in text):
            raise ValueError(f"must have a text of one line, up to 4096 characters of Latin-1, as the value of {name}")
        unknown = [each for each in _NAMED.findall(text) if each not in PLACEHOLDERS]
        if unknown:
            known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
            raise ValueError(f"names {{{unknown[0]}}} in the value of {name}, which is none of {known}")
    return tuple((name, text.strip()) for name, text in _distinct(found, fold=True))


def header_name(name: object) -> str:
    """The name of a field that may be changed."""
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"must have names of 1 to 64 letters, digits or - . _ and the like, not {shown(name)}")
    if _OURS.fullmatch(name):
        raise ValueError(f"must not have {name}, which is the edge's own affair")
    return name


def weights(found: object) -> tuple[tuple[str, int], ...]:
    """Where to: the name of a service, or `{"NAME": weight}`."""
    if isinstance(found, str):
        return ((service_name(found), 1),)
    if not isinstance(found, dict):
        raise ValueError(f"must be the name of a service, or an object of names and weights, not {shown(found)}")
    wrong = [(name, weight) for name, weight in found.items() if service_name(name) and not _is_weight(weight)]
    if wrong:
        each = ", ".join(f"{shown(weight)} of {name}" for name, weight in wrong)
        raise ValueError(f"must have whole numbers from 0 to 1000000 as weights, not {each}")
    if not sum(found.values()):
        raise ValueError("has weights that add up to nothing")
    return tuple(found.items())


def _is_weight(value: object) -> bool:
    return type(value) is int and 0 <= value <= 1_000_000


def split_by(text: str) -> str:
    """What a person is known by: `client`, `header:NAME` or `cookie:NAME`."""
    if text == "path":
        raise ValueError('must be "client", "header:NAME" or "cookie:NAME", not "path"')
    return values.hash_by(text)


def body_text(text: str) -> str:
    """The text of an answer."""
    if len(text) > MOST_TEXT or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"must be a text of whole characters, at most {MOST_TEXT} of them")
    return text


def auth_url(text: str) -> str:
    """What is asked whether a request may go on."""
    if any(not "!" <= c <= "~" for c in text) or "#" in text or "@" in text:
        raise ValueError(f"must be a URL in plain ASCII without user and fragment, not {shown(text)}")
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError(f'must be a URL such as "http://auth.internal:9000/check", not {shown(text)}')
    before, question, query = text.partition("?")
    scheme, _, rest = before.partition("://")
    host_port, slash, rest = rest.partition("/")
    values.backend_url(f"{scheme}://{host_port}")
    return f"{scheme.lower()}://{host_port}{slash or '/'}{rest}{question}{query}"


def password_line(line: str, number: int) -> tuple[str, str] | None:
    """One line of an htpasswd file, (user, hash); None for an empty one and a comment. No message shows the hash."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    user, colon, digest = line.partition(":")
    if not colon or not user:
        raise ValueError(f'has no "user:hash" in line {number}')
    if re.fullmatch(r"\$2[aby]\$(0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}", digest):
        return user, digest
    found = re.fullmatch(r"\$[56]\$(?:rounds=([0-9]{1,9})\$)?[^$:]{0,16}\$[./A-Za-z0-9]{43,86}", digest)
    if not found:
        raise ValueError(
            f"has a hash in line {number} that is neither bcrypt (`htpasswd -B`) nor SHA-crypt (`openssl passwd -6`)"
        )
    if int(found[1] or 0) > 1_000_000:
        raise ValueError(f"has a hash of more than 1000000 rounds in line {number}, which takes seconds")
    return user, digest


def password_file(text: str) -> str:
    """The name of an htpasswd file that can be read."""
    if os.path.exists(values.line(text)):
        existing_file(text)  # a pipe would be read for ever
    try:
        with open(text, encoding="utf-8") as file:
            found = [password_line(each, number) for number, each in enumerate(file, 1)]
    except OSError as error:
        raise ValueError(f"names {shown(text)}, which cannot be read {where(text)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"names {shown(text)}, which is not UTF-8 text") from None
    except ValueError as error:
        raise ValueError(f"names {shown(text)}, which {error}") from None
    if not any(found):
        raise ValueError(f"names {shown(text)}, which holds no user")
    if any(user and user[1].startswith("$2") for user in found) and find_spec("bcrypt") is None:
        raise ValueError(f"names {shown(text)}, which has bcrypt hashes: they need `pip install 'smartedge[auth]'`")
    return text


def several(value: object) -> Any:
    """A single text where a list may stand is a list of one."""
    return (value,) if isinstance(value, str) else value


def _pairs(found: object, most: int) -> list[tuple[str, Any]]:
    if not isinstance(found, dict):
        raise ValueError(f"must be an object, not {shown(found)}")
    if len(found) > most:
        raise ValueError(f"must hold at most {most} names, not {len(found)}")
    return list(found.items())


def _distinct(found: Any, *, fold: bool) -> tuple[tuple[str, str], ...]:
    names = [name.lower() if fold else name for name in found]
    if len(set(names)) != len(names):
        raise ValueError("must not have a field twice; its name is the same in upper and lower case")
    return tuple(found.items())
