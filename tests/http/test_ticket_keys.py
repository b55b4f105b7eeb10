"""Session tickets: whoever has the secret takes them, also the secret of before."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import pytest

from smartedge.http import ticket_keys
from smartedge.http.ticket_keys import TicketKeys, set_one_key, ticket_key
from tests.certificates import Authority, trusting

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def pem(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> str:
    return authority.sign(tmp_path_factory.mktemp("pems") / "a.pem", "a.example")


def context_of(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def meet(context: ssl.SSLContext, client: ssl.SSLContext, session: Any = None) -> tuple[bool, Any]:
    """Whether a client resumed that session, and the one that it has now."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname="a.example", session=session)
    theirs = context.wrap_bio(up, down, server_side=True)
    for _ in range(6):
        for end in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        ours.read(1)  # the ticket of TLS 1.3
    return bool(ours.session_reused), ours.session


@pytest.mark.parametrize("version", VERSIONS)
def test_contexts_of_one_secret_resume_each_others_sessions_and_no_others_do(
    version: ssl.TLSVersion, authority: Authority, pem: str
) -> None:
    contexts = [context_of(pem) for _ in range(4)]
    one, same, stranger, apart = contexts
    keys = [TicketKeys(one, [NEW]), TicketKeys(same, [NEW]), TicketKeys(stranger, [OTHER]), TicketKeys(apart, [NEW], b"apart")]
    client = trusting(authority, maximum_version=version)
    reused, session = meet(one, client)
    assert not reused
    assert meet(same, client, session)[0]
    assert not meet(stranger, client, session)[0]
    assert not meet(apart, client, session)[0]
    assert len(keys) == 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_of_the_secret_of_before_is_taken_and_a_new_one_given(
    version: ssl.TLSVersion, authority: Authority, pem: str
) -> None:
    context = context_of(pem)
    keys, client = TicketKeys(context, [OLD]), trusting(authority, maximum_version=version)
    _, session = meet(context, client)
    keys.use([NEW, OLD])
    reused, renewed = meet(context, client, session)
    assert reused
    keys.use([NEW])
    assert meet(context, client, renewed)[0], "the one that it was given then is of the newest secret"
    assert not meet(context, client, session)[0], "a full handshake, and nothing fails"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_openssl_that_takes_one_key_shares_that(version: ssl.TLSVersion, authority: Authority, pem: str) -> None:
    openssl, client = ticket_keys._openssl(), trusting(authority, maximum_version=version)
    contexts = [context_of(pem), context_of(pem)]
    for context in contexts:
        set_one_key(openssl, ticket_keys._pointer(context, openssl), ticket_key(NEW))
    _, session = meet(contexts[0], client)
    assert meet(contexts[1], client, session)[0]


def test_keys_of_one_secret_differ_by_use_and_say_nothing_of_it() -> None:
    name, mac, cipher = ticket_key(NEW)
    assert (len(name), len(mac), len(cipher)) == (16, 32, 32)
    assert len({name, mac[:16], cipher[:16], NEW[:16]}) == 4
    assert ticket_key(NEW) == ticket_key(NEW)
    assert not set(ticket_key(NEW, b"apart")) & set(ticket_key(NEW))
