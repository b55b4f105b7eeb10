"""Making sure who answers: a command asks, and only the edge that it means can answer.

    X-SmartEdge-Hello: <nonce> [<proof that the command has the token>]
    {"smartedge": "0.1.0", "nonce": <the same>, "needs_token": true, "proof": <proof that the edge has the token>}

A proof is an HMAC (RFC 2104) over the nonce, under the token, which itself is not sent before. Backends behind a traffic port
see neither nonce nor proof, for the field ends at the edge, and so they can't answer in its place. The edge proves nothing to
somebody who has not: what it says would let tokens be guessed.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

FIELD: Final = "X-SmartEdge-Hello"
PATH: Final = "/smartedge/hello"

_SAID: Final = re.compile(r"([0-9a-f]{32})(?: ([0-9a-f]{64}))?")


def new_nonce() -> str:
    """Make what nobody has said before."""
    return secrets.token_hex(16)


def question(nonce: str, token: str | None) -> str:
    """Return the field's value."""
    return f"{nonce} {_proof(token, 'command', nonce)}" if token else nonce


def reply(said: str, token: str | None, version: str) -> dict[str, Any]:
    """Return what the edge answers: without a proof when that in the question is wrong. Raises ValueError for no question."""
    found = _SAID.fullmatch(said)
    if found is None:
        raise ValueError(f"{FIELD} holds a nonce of 32 hexadecimal digits, and perhaps a proof of 64.")
    nonce, proof = found.groups()
    document = {"smartedge": version, "nonce": nonce, "needs_token": bool(token)}
    if token and proof is not None and hmac.compare_digest(proof, _proof(token, "command", nonce)):
        document["proof"] = _proof(token, "edge", nonce)
    return document


def is_edge(document: Mapping[str, Any], nonce: str) -> bool:
    """Whether this is the answer of an edge: of one that has seen the nonce."""
    return isinstance(document.get("smartedge"), str) and document.get("nonce") == nonce


def has_token(document: Mapping[str, Any], nonce: str, token: str) -> bool:
    """Whether who answered has our token, so that it may be sent there."""
    proof = document.get("proof")
    return isinstance(proof, str) and hmac.compare_digest(proof.encode(), _proof(token, "edge", nonce).encode())


def _proof(token: str, role: str, nonce: str) -> str:
    """role: who proves it, so that nobody's proof is of use to the other side."""
    return hmac.digest(token.encode(), f"smartedge {role} {nonce}".encode(), "sha256").hex()
