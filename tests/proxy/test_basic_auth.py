"""Who gets in, who does not, and what a guess costs."""

from __future__ import annotations

from base64 import b64encode
from threading import get_ident

import pytest

from smartedge.balancer.errors import TooManyRequests
from smartedge.proxy.basic_auth import MOST_REMEMBERED, BasicAuth, InThreads, read_users

USERS = {b"ann": b"hash of secret", "bj\xf6rn".encode(): b"hash of p:w"}


def basic(name: str, password: str) -> bytes:
    return b"Basic " + b64encode(f"{name}:{password}".encode())


class Checks:
    """Counts what is worked out."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def __call__(self, password: bytes, stored: bytes) -> bool:
        self.asked.append((password, stored))
        return stored == b"hash of " + password


def test_a_user_gets_in_by_name_and_password() -> None:
    auth = BasicAuth(USERS, "shop", Checks())
    assert auth.user(basic("ann", "secret")) == b"ann"
    assert auth.user(basic("bj\xf6rn", "p:w")) == "bj\xf6rn".encode()
    assert auth.user(b"bAsIc   " + b64encode(b"ann:secret")) == b"ann"
    assert auth.challenge == 'Basic realm="shop", charset="UTF-8"'


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Basic",
        b"Basic !!!",
        b"Basic YW5u",
        b"Bearer secret",
        basic("ann", "Secret"),
        basic("bob", "secret"),
        basic("", ""),
    ],
)
def test_nobody_else_does(authorization: bytes | None) -> None:
    assert BasicAuth(USERS, "shop", Checks()).user(authorization) is None


def test_an_unknown_name_takes_as_long_as_a_wrong_password_and_never_gets_in() -> None:
    checks = Checks()
    auth = BasicAuth(USERS, "shop", checks)
    assert auth.user(basic("bob", "secret")) is None
    assert checks.asked == [(b"secret", b"hash of secret")]


def test_good_credentials_are_worked_out_once_and_bad_ones_each_time() -> None:
    checks = Checks()
    auth = BasicAuth(USERS, "shop", checks)
    for _ in range(5):
        auth.user(basic("ann", "secret"))
        auth.user(basic("ann", "guess"))
    assert len(checks.asked) == 6
    assert all(b"secret" not in digest for digest in auth._known)


def test_what_is_remembered_has_a_bound() -> None:
    users = {b"%d" % i: b"hash of x" for i in range(MOST_REMEMBERED + 10)}
    auth = BasicAuth(users, "shop", Checks())
    for name in users:
        auth.user(basic(name.decode(), "x"))
        assert len(auth._known) <= MOST_REMEMBERED


def test_a_check_is_worked_out_in_another_thread_and_too_many_are_refused() -> None:
    def check(password: bytes, stored: bytes) -> bool:
        threads.add(get_ident())
        return password == stored

    threads: set[int] = set()
    in_threads = InThreads(check)
    assert in_threads(b"a", b"a")
    assert not in_threads(b"a", b"b")
    assert get_ident() not in threads
    full = InThreads(check, most_waiting=0)
    with pytest.raises(TooManyRequests) as caught:
        full(b"a", b"a")
    assert caught.value.retry_after_s == 1


def test_the_first_of_two_lines_of_a_name_counts() -> None:
    assert read_users("# users\n\nann:$6$a\n bob:$2y$b \nann:$6$c\n") == {b"ann": b"$6$a", b"bob": b"$2y$b"}
