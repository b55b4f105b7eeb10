"""A client's certificate as backends are told of it: two header fields, which http/headers.py takes out of what clients send."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, Final

SUBJECT: Final = b"X-Client-Cert-Subject"
FINGERPRINT: Final = b"X-Client-Cert-Fingerprint"

_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""RFC 4514 section 3; all others keep OpenSSL's names."""
_SPECIAL = re.compile(r'["+,;<>=\\]')


def certificate_lines(found: tuple[dict[str, Any], bytes] | None) -> bytes:
    """Write the fields for a client's certificate that was checked: as Python reads it, and as bytes (DER); b"" without one."""
    if found is None:
        return b""
    said, der = found
    subject = distinguished_name(said.get("subject", ()))
    return b"%b: %b\r\n%b: %b\r\n" % (SUBJECT, subject.encode("ascii"), FINGERPRINT, sha256(der).hexdigest().encode())


def distinguished_name(parts: Any) -> str:
    """Write a name as RFC 4514 does, the last part first, in ASCII: `CN=alice,O=Shop`. parts: as `getpeercert` has them."""
    written = ["+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in reversed(parts)]
    return ",".join(written)


def _escaped(value: str) -> str:
    """Escape what RFC 4514 section 2.4 asks for, and all that is no printable ASCII, byte by byte."""
    text = _SPECIAL.sub(lambda found: "\\" + found[0], value)
    if text[:1] in ("#", " "):
        text = "\\" + text
    if text[-1:] == " " and text != "\\ ":
        text = text[:-1] + "\\ "
    return "".join(c if " " <= c <= "~" else _in_bytes(c) for c in text)


def _in_bytes(character: str) -> str:
    return "".join(f"\\{byte:02X}" for byte in character.encode("utf-8", "replace"))
