"""Whether a password is the one of a hash in an htpasswd file: SHA-crypt and bcrypt. Pure functions; each takes milliseconds.

SHA-crypt is 60 lines on hashlib, with published test values; the standard library's `crypt` had it and is gone since Python 3.13.
bcrypt is its own cipher, so that comes from the package `bcrypt` (pyca's; `pip install smartedge[auth]`), which works without the
interpreter's lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256, sha512
from hmac import compare_digest

from gevent.monkey import get_original

BCRYPT_BYTES = 72
"""bcrypt looks at no more of a password, and `htpasswd -B` cuts it there, too."""

LONGEST_BYTES = 512
"""No password is longer (as in libxcrypt). SHA-crypt takes the square of the length, in time and memory: of the 48 kB that fit
into a head, gigabytes."""

ROUNDS_AT_ONCE, PAUSE_S = 64, 0.00002
"""A thread that hashes lets go of the interpreter's lock so often, and for so long. Without that the event loop waits 5 ms for it
whenever it has done anything: six clients with wrong passwords made all requests of a worker wait 12 ms. A pause of 0 would not
do, as the lock is taken back before anybody has woken up."""
_pause = get_original("time", "sleep")  # gevent's own would begin an event loop in this thread

DEFAULT_ROUNDS, LEAST_ROUNDS, MOST_ROUNDS = 5_000, 1_000, 999_999_999

_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHA_CRYPT = re.compile(rb"\$([56])\$(?:rounds=([0-9]+)\$)?([^$]{0,16})\$[./0-9A-Za-z]+")


def is_password(password: bytes, stored: bytes) -> bool:
    """Whether a password belongs to a hash, in a time that does not tell how much of it is right."""
    if b"\0" in password or len(password) > LONGEST_BYTES:
        return False  # where these come from, it would end at a NUL
    if stored.startswith(b"$2"):
        return bcrypt_check()(password[:BCRYPT_BYTES], stored)
    found = _SHA_CRYPT.fullmatch(stored)
    if found is None:
        return False
    rounds = DEFAULT_ROUNDS if found[2] is None else min(max(int(found[2]), LEAST_ROUNDS), MOST_ROUNDS)
    return compare_digest(sha_crypt(password, found[3], rounds, found[1] == b"6", shown=found[2] is not None), stored)


def bcrypt_check() -> Callable[[bytes, bytes], bool]:
    """Give what checks bcrypt; raises ImportError where the package is not installed."""
    import bcrypt

    check: Callable[[bytes, bytes], bool] = bcrypt.checkpw
    return check


def sha_crypt(password: bytes, salt: bytes, rounds: int, long: bool, *, shown: bool) -> bytes:
    """Hash a password as SHA-256-crypt or, if `long`, SHA-512-crypt (Drepper, "Unix crypt using SHA-256 and SHA-512", 2007).

    The numbers of the steps are those of that text. shown: the number of rounds stands in the result.
    """
    make, size = (sha512, 64) if long else (sha256, 32)
    other = make(password + salt + password).digest()  # 4 to 8
    text = password + salt + _repeated(other, len(password))  # 1 to 3, 9, 10
    bits = len(password)
    while bits:  # 11
        text += other if bits & 1 else password
        bits >>= 1
    digest = make(text).digest()  # 12
    p = _repeated(make(password * len(password)).digest(), len(password))  # 13 to 16
    s = _repeated(make(salt * (16 + digest[0])).digest(), len(salt))  # 17 to 20
    for number in range(rounds):  # 21
        if not number % ROUNDS_AT_ONCE:
            _pause(PAUSE_S)
        digest = make(
            (p if number & 1 else digest)
            + (s if number % 3 else b"")
            + (p if number % 7 else b"")
            + (digest if number & 1 else p)
        ).digest()
    return b"$%b$%b%b$%b" % (b"6" if long else b"5", b"rounds=%d$" % rounds if shown else b"", salt, _written(digest, size))


def _repeated(piece: bytes, length: int) -> bytes:
    return (piece * (length // len(piece) + 1))[:length]


def _written(digest: bytes, size: int) -> bytes:
    """Write a digest in crypt's base 64, three bytes at a time in an order of its own (step 22)."""
    if size == 64:
        triples = [((i * 22) % 63, (i * 22 + 21) % 63, (i * 22 + 42) % 63) for i in range(21)]
        last, letters = digest[63], 2
    else:
        triples = [((i * 21) % 30, (i * 21 + 10) % 30, (i * 21 + 20) % 30) for i in range(10)]
        last, letters = digest[31] << 8 | digest[30], 3
    text = b"".join(_letters(digest[a] << 16 | digest[b] << 8 | digest[c], 4) for a, b, c in triples)
    return text + _letters(last, letters)


def _letters(value: int, count: int) -> bytes:
    return bytes(_ALPHABET[value >> 6 * i & 63] for i in range(count))
