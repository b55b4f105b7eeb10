"""Names and passwords in front of a route (RFC 7617), from an htpasswd file."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from hashlib import blake2b
from secrets import token_bytes

from gevent.threadpool import ThreadPool

from smartedge.balancer.errors import TooManyRequests
from smartedge.proxy.passwords import is_password

MOST_REMEMBERED = 1024
"""Good credentials that are not worked out again, as digests that nobody can read the password from."""

MOST_WAITING = 64
"""So many checks may wait for their turn, in each worker: who guesses passwords must not take the edge away from others."""

Check = Callable[[bytes, bytes], bool]
"""Whether a password (bytes) is that of a hash."""


class InThreads:
    """Works checks out beside the event loop, two at a time; one for all routes, made when the first password is checked.

    Raises TooManyRequests when too many wait.
    """

    def __init__(self, check: Check = is_password, most_waiting: int = MOST_WAITING) -> None:
        self._check = check
        self._most_waiting = most_waiting
        self._pool: ThreadPool | None = None
        self._waiting = 0

    def __call__(self, password: bytes, stored: bytes) -> bool:
        """Check a password while other requests go on."""
        if self._waiting >= self._most_waiting:
            raise TooManyRequests("Too many passwords are being checked.", retry_after_s=1)
        if self._pool is None:
            self._pool = ThreadPool(2)
        self._waiting += 1
        try:
            return bool(self._pool.apply(self._check, (password, stored)))
        finally:
            self._waiting -= 1


class BasicAuth:
    """The users of a route; made at reload, asked by the `Route` for every request.

    users: hashes by name. A name that is unknown is checked against somebody's hash, so that the time does not tell names.
    """

    __slots__ = ("_check", "_key", "_known", "_nobody", "_users", "challenge")

    def __init__(self, users: dict[bytes, bytes], realm: str, check: Check) -> None:
        self._users = users
        self._nobody = next(iter(users.values()))
        self._check = check
        self._key = token_bytes(32)
        self._known: dict[bytes, bytes] = {}
        self.challenge = f'Basic realm="{realm}", charset="UTF-8"'

    def user(self, authorization: bytes | None) -> bytes | None:
        """Give the name of the user whose credentials these are, None if they are nobody's; raises TooManyRequests."""
        if authorization is None:
            return None
        digest = blake2b(authorization, key=self._key, digest_size=32).digest()
        if (known := self._known.get(digest)) is not None:
            return known
        found = credentials(authorization)
        if found is None:
            return None
        name, password = found
        stored = self._users.get(name)
        if not self._check(password, self._nobody if stored is None else stored) or stored is None:
            return None
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = name
        return name


def credentials(authorization: bytes) -> tuple[bytes, bytes] | None:
    """Read name and password off an Authorization field; None if it holds none of this kind."""
    scheme, _, text = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = b64decode(text.strip(), validate=True).partition(b":")
    except Base64Error:
        return None
    return (name, password) if colon else None


def read_users(text: str) -> dict[bytes, bytes]:
    """Read an htpasswd file, whose lines the configuration has checked; the first line of a name counts, as in Apache."""
    users: dict[bytes, bytes] = {}
    for line in text.splitlines():
        name, colon, stored = line.strip().partition(":")
        if colon and not name.startswith("#"):
            users.setdefault(name.encode(), stored.encode())
    return users
