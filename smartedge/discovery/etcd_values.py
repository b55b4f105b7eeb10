"""What etcd's v3 API says as JSON, and what we make of it: keys, events, answers of a transaction, errors. No socket.

int64 are strings there, bytes are base64, and whatever is zero, empty or false is left out
(https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/, rpc.proto).
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smartedge.config import values


class EtcdError(Exception):
    """etcd cannot be asked, or has refused. The text names endpoint and cause, and never holds a password.

    retriable: whether the same question may be answered later. sent: whether etcd may have acted on it all the same: False where
    no endpoint was reached, and where etcd has refused. code: gRPC's, of a refusal.
    """

    def __init__(self, message: str, retriable: bool = False, sent: bool = False, code: int | None = None) -> None:
        super().__init__(message)
        self.retriable = retriable
        self.sent = sent
        self.code = code


class Compacted(EtcdError):
    """The history after a revision is not to be had: compacted, or etcd has been put back to an older state. Read all again.

    revision: the first one that there still is; 0 where that is not known.
    """

    def __init__(self, message: str, revision: int = 0) -> None:
        super().__init__(message, retriable=True)
        self.revision = revision


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it stands. version: 1 for a key that was just made. lease: 0 for none."""

    key: str
    value: bytes
    version: int
    create_revision: int
    mod_revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a key. value: empty when it is gone, deleted or its lease over."""

    kind: Literal["put", "delete"]
    key: str
    value: bytes
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Txn:
    """The answer to a transaction. responses: for each operation of the branch that was taken, the keys that a range found."""

    succeeded: bool
    revision: int
    responses: tuple[tuple[KeyValue, ...], ...]


@dataclass(frozen=True, slots=True)
class EtcdRefusal:
    """An error that etcd has answered with. code: gRPC's."""

    code: int
    text: str

    @property
    def is_retriable(self) -> bool:
        """Deadline exceeded, too many requests, unavailable; but a full database stays full."""
        return self.code in (4, 8, 14) and "space exceeded" not in self.text

    @property
    def wants_token(self) -> bool:
        """Whether a new token may help: the old one is over, none was sent, or users have been changed since."""
        return self.code == 16 or any(words in self.text for words in _TOKEN_WORDS)

    @property
    def is_compacted(self) -> bool:
        """Whether a revision is asked for that etcd no longer has."""
        return "has been compacted" in self.text


_TOKEN_WORDS = ("invalid auth token", "user name is empty", "revision of auth store is old")

Json = Mapping[str, Any]


def encoded(text: str | bytes) -> str:
    """A key or value as the API takes it."""
    return b64encode(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text).decode()


def prefix_end(prefix: str) -> bytes:
    """The end of the range of all keys with this prefix: its last byte plus one, as etcd's own clients do."""
    key = prefix.encode("utf-8", "surrogateescape").rstrip(b"\xff")
    return key[:-1] + bytes([key[-1] + 1]) if key else b"\0"


def keys(key: str, *, prefix: bool) -> dict[str, str]:
    """The keys that an operation is about: one, or all with a prefix ("" for every key)."""
    if not prefix:
        return {"key": encoded(key)}
    return {"key": encoded(key or b"\0"), "range_end": encoded(prefix_end(key))}


def key_value(found: Json) -> KeyValue:
    """A key of an answer."""
    return KeyValue(
        key=_bytes(found, "key").decode("utf-8", "surrogateescape"),
        value=_bytes(found, "value"),
        version=number(found, "version"),
        create_revision=number(found, "create_revision"),
        mod_revision=number(found, "mod_revision"),
        lease=number(found, "lease"),
    )


def event(found: Json) -> Event:
    """An event of a watch."""
    pair = key_value(found["kv"])
    return Event("delete" if found.get("type") == "DELETE" else "put", pair.key, pair.value, pair.mod_revision)


def txn(found: Json) -> Txn:
    """The answer to a transaction."""
    responses = tuple(
        tuple(key_value(pair) for pair in response.get("response_range", {}).get("kvs", ()))
        for response in found.get("responses", ())
    )
    return Txn(found.get("succeeded", False), revision(found), responses)


def revision(found: Json) -> int:
    """The revision of etcd's store when it gave an answer."""
    return number(found["header"], "revision")


def number(found: Json, name: str) -> int:
    """An int64 of an answer."""
    return int(found.get(name, 0))


def parsed(body: bytes) -> Json:
    """The JSON object of an answer; raises ValueError, KeyError among what the functions above raise."""
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def refusal(status: int, body: bytes) -> EtcdRefusal:
    """What an answer other than 200 says, of etcd or of whoever stands in front of it."""
    try:
        found = parsed(body)
        text = found.get("message") or found["error"]
        return EtcdRefusal(int(found.get("code", 0)), str(text).removeprefix("etcdserver: "))
    except (ValueError, KeyError, TypeError):
        code = {404: 5, 401: 16, 403: 7}.get(status, 14 if status >= 500 else 3)
        if status == 404:
            return EtcdRefusal(code, "there is no etcd API v3 (etcd 3.4 or newer has it)")
        return EtcdRefusal(code, f"it answered with status {status}{_in_words(body)}")


def _in_words(body: bytes) -> str:
    """What an answer says that is no JSON: etcd tells so that it takes no certificate with a common name beside users."""
    line = body[:1000].decode("utf-8", "replace").strip().partition("\n")[0]
    return f": {values.escaped(line)[:200]}" if line and line[0] not in "<{[" else ""


def _bytes(found: Json, name: str) -> bytes:
    return b64decode(found.get(name, ""), validate=True)


# Parts of a transaction.


def unchanged(key: str, mod_revision: int) -> Json:
    """A condition: nobody has written the key since it was read; 0 if it was not there."""
    return {"key": encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(mod_revision)}


def absent(key: str) -> Json:
    """A condition: there is no such key."""
    return {"key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


def put_op(key: str, value: bytes, lease: int = 0) -> Json:
    """An operation: write a key."""
    return {"request_put": put_request(key, value, lease)}


def delete_op(key: str, *, prefix: bool = False) -> Json:
    """An operation: delete a key, or all with a prefix."""
    return {"request_delete_range": keys(key, prefix=prefix)}


def range_op(key: str, *, prefix: bool = False) -> Json:
    """An operation: read a key, or all with a prefix."""
    return {"request_range": keys(key, prefix=prefix)}


def put_request(key: str, value: bytes, lease: int) -> dict[str, str]:
    """What a put says."""
    return {"key": encoded(key), "value": encoded(value), **({"lease": str(lease)} if lease else {})}


def txn_request(compares: Sequence[Json], then: Sequence[Json], otherwise: Sequence[Json]) -> dict[str, Any]:
    """What a transaction says."""
    return {"compare": list(compares), "success": list(then), "failure": list(otherwise)}
