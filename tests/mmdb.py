"""Writes small MaxMind databases, as its specification has them (MaxMind-DB-spec.md, version 2.0): tree, data, metadata."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

CITY = "GeoLite2-City"


def at(latitude: float, longitude: float) -> dict[str, Any]:
    """A record of a place, as in databases of cities."""
    return {"location": {"latitude": latitude, "longitude": longitude}}


def country(code: str) -> dict[str, Any]:
    """A record of a country."""
    return {"country": {"iso_code": code, "names": {"en": f"The country {code}"}}}


def database(records: Mapping[str, Any], kind: str = CITY, ip_version: int = 6) -> bytes:
    """Give the bytes of a database that says these records of these networks; none of them may hold another."""
    nodes: list[list[Any]] = [[None, None]]
    for text, record in records.items():
        network = ip_network(text)
        length = network.prefixlen + (96 if network.version == 4 and ip_version == 6 else 0)
        bits = f"{int(network.network_address):0{128 if ip_version == 6 else 32}b}"[:length]
        node = 0
        for bit in bits[:-1]:
            if nodes[node][int(bit)] is None:
                nodes.append([None, None])
                nodes[node][int(bit)] = len(nodes) - 1
            node = nodes[node][int(bit)]
        nodes[node][int(bits[-1])] = (record,)
    data, tree = b"", b""
    for side in (side for node in nodes for side in node):
        if isinstance(side, tuple):
            tree += struct.pack(">I", len(nodes) + 16 + len(data))
            data += _encoded(side[0])
        else:
            tree += struct.pack(">I", len(nodes) if side is None else side)
    about = {
        "binary_format_major_version": (5, 2), "binary_format_minor_version": (5, 0), "build_epoch": (9, 1_700_000_000),
        "database_type": kind, "description": {"en": "made by a test"}, "ip_version": (5, ip_version), "languages": ["en"],
        "node_count": (6, len(nodes)), "record_size": (5, 32),
    }  # fmt: skip
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _encoded(about)


def write(path: Path, records: Mapping[str, Any], kind: str = CITY, ip_version: int = 6) -> Path:
    """Put a database there, by a rename as geoipupdate does it."""
    part = path.with_suffix(".part")
    part.write_bytes(database(records, kind, ip_version))
    return part.replace(path)


def _encoded(value: Any) -> bytes:
    if isinstance(value, dict):
        return _control(7, len(value)) + b"".join(_encoded(key) + _encoded(one) for key, one in value.items())
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_encoded, value))
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, tuple):  # the number of a type, and a whole number of it
        body = value[1].to_bytes(8, "big").lstrip(b"\0")
        return _control(value[0], len(body)) + body
    return _control(3, 8) + struct.pack(">d", value)


def _control(kind: int, size: int) -> bytes:
    assert size < 29 + 256
    extended = bytes([kind - 7]) if kind > 7 else b""
    first = (0 if kind > 7 else kind << 5) | min(size, 29)
    return bytes([first]) + extended + (bytes([size - 29]) if size >= 29 else b"")
