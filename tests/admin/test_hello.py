"""A command makes sure who answers, before it sends anything that matters."""

from __future__ import annotations

import pytest

from smartedge.admin import hello

NONCE = "0123456789abcdef" * 2


def reply(token: str | None, theirs: str | None, nonce: str = NONCE) -> dict[str, object]:
    return hello.reply(hello.question(nonce, theirs), token, "0.1.0")


def test_an_edge_with_the_same_token_proves_that_it_has_it() -> None:
    document = reply("t0ken", "t0ken")
    assert hello.is_edge(document, NONCE)
    assert hello.has_token(document, NONCE, "t0ken")
    assert document["needs_token"] is True
    assert "t0ken" not in str(document) + hello.question(NONCE, "t0ken")


def test_an_edge_proves_nothing_to_one_who_has_not_the_token_itself() -> None:
    for theirs in (None, "another"):
        document = reply("t0ken", theirs)
        assert hello.is_edge(document, NONCE)
        assert "proof" not in document


def test_an_edge_without_a_token_says_that_it_needs_none() -> None:
    assert reply(None, "t0ken") == {"smartedge": "0.1.0", "nonce": NONCE, "needs_token": False}


def test_no_answer_fits_another_question() -> None:
    other = "f" * 32
    document = reply("t0ken", "t0ken", other)
    assert not hello.is_edge(document, NONCE)
    assert not hello.has_token(document, NONCE, "t0ken")
    assert not hello.has_token({"proof": hello.question(NONCE, "t0ken").split()[1]}, NONCE, "t0ken")  # our own, sent back


@pytest.mark.parametrize(
    "document", [{}, {"smartedge": 1, "nonce": NONCE}, {"smartedge": "0.1.0"}, {"nonce": NONCE}, {"proof": "é"}]
)
def test_what_another_server_answers_is_no_edge(document: dict[str, object]) -> None:
    assert not hello.is_edge(document, NONCE)
    assert not hello.has_token(document, NONCE, "t0ken")


@pytest.mark.parametrize("said", ["", "x", NONCE + " ", NONCE.upper(), NONCE + " 12", f"{NONCE} {'0' * 64} more", "é" * 32])
def test_what_is_no_question_is_told(said: str) -> None:
    with pytest.raises(ValueError, match="X-SmartEdge-Hello holds a nonce"):
        hello.reply(said, "t0ken", "0.1.0")


def test_nobody_says_the_same_nonce_twice() -> None:
    assert len({hello.new_nonce() for _ in range(100)}) == 100
