"""A request's fields and cookies by name, as bytes: found, and taken out. Pure functions.

A block is header fields as they came, `name: value CRLF` each. Cookies are read as RFC 6265 section 5.4 has them
written: `Cookie: one=1; two=2`; names are compared byte for byte, a value is what stands between `=` and `;`.
"""

from __future__ import annotations

from collections.abc import Iterator


def field(block: bytes, name: bytes) -> bytes | None:
    """Return the first value of a field; the name is given in lower case."""
    low = b"\n" + block.lower()
    start = low.find(b"\n%b:" % name)
    if start < 0:
        return None
    end = block.find(b"\r", start)
    return block[start + len(name) + 1 : end].strip(b" \t")


def cookies(block: bytes, name: bytes) -> Iterator[bytes]:
    """Give every value that the client sent of a cookie; one of that name may have been set for several paths."""
    if name in block:  # nearly as cheap as not looking
        for line in _cookie_lines(block):
            for pair in line[7:].split(b";"):
                found, is_pair, value = pair.strip(b" \t\r\n").partition(b"=")
                if is_pair and found == name:
                    yield value


def take_cookie(block: bytes, name: bytes) -> tuple[list[bytes], bytes]:
    """Return every value of a cookie, and the block without them.

    The usual block, with one such cookie in one field, is cut in two places; any other is taken apart.
    """
    place = block.find(b"%b=" % name)
    if place < 0:
        return [], block
    start = block.rfind(b"\n", 0, place) + 1
    before = block[start + 7 : max(place, start + 7)].rstrip(b" \t")
    if (
        place < start + 7
        or block.find(name, place + 1) >= 0
        or block[start : start + 7].lower() != b"cookie:"
        or (before and not before.endswith(b";"))
    ):
        return list(cookies(block, name)), without_cookie(block, name)
    end = block.find(b"\r", place)
    value, _, after = block[place + len(name) + 1 : end].partition(b";")
    after = after.strip(b" \t")
    before = before.strip(b" \t;")
    if before and after:
        left = b"%b %b; %b\r\n" % (block[start : start + 7], before, after)
    elif before or after:
        left = b"%b %b\r\n" % (block[start : start + 7], before or after)
    else:
        left = b""
    return [value.rstrip(b" \t")], b"%b%b%b" % (block[:start], left, block[end + 2 :])


def without_cookie(block: bytes, name: bytes) -> bytes:
    """Return the block without that cookie, and without a field that held no other."""
    if name not in block:
        return block
    lines = []
    for line in block.splitlines(keepends=True):
        if line[:7].lower() == b"cookie:" and name in line:
            pairs = [pair.strip(b" \t\r\n") for pair in line[7:].split(b";")]
            kept = [pair for pair in pairs if not pair.startswith(name + b"=")]
            if len(kept) < len(pairs):
                if not any(kept):
                    continue
                line = b"%b %b\r\n" % (line[:7], b"; ".join(kept))
        lines.append(line)
    return b"".join(lines)


def _cookie_lines(block: bytes) -> Iterator[bytes]:
    return (line for line in block.splitlines() if line[:7].lower() == b"cookie:")
