"""Hashes that other programs made, and passwords that are nearly right."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec

import pytest

from smartedge.proxy.passwords import LONGEST_BYTES, is_password, sha_crypt

LONG = "a very much longer text to encrypt.  This one even stretches over morethan one line."

SHA = [  # made by libxcrypt; the first two are Drepper's own test values
    ("Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
    (LONG, "$6$saltstring$53QDttM5XFD.Uhcc3Efy7XV.zrHuvtZBT.o/f2SKV3xQtXyOrfywMwP0f2HpBrNF2SZtZsbhq.f.OV.UeVZz0."),
    (
        "pässwörd",
        "$6$rounds=10000$saltstringsaltst$XBArzEr8gc3DYYqD0vqBqFH/XZTp3qxicphuTyvI4ufo9tUSebq0xDLPXNLayWC9b0HBp5DPHmZ5KpR2mWdEe0",
    ),
    ("", "$6$x$QSmr1Bx2g4O6BzKvdkgOcyU6H91X6I/XBv5pSalMhSPkwdH6Beo3F455xZJg0v//bxVK5F4OE5k1.0xuR26MK0"),
    ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    (LONG, "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1"),
    ("pässwörd", "$5$rounds=1000$$h0dP4OUINF53aiz5nZd1SJBXA8/0RXg7HLScl7aeQB9"),
    ("x" * 64, "$5$saltstring$.Q4wJP3hnYUpcFYigvdygfeEBqAFzeeKjKg/MtHRkKA"),
    ("x" * 65, "$6$saltstring$6SQS3GtHC3TPYB.63O/KZyn5uBDlYfe1PvIq4EkYEmAojXOtfokMtH82Tj4wQ/EsRh3FgIyhJUtiFulxq4Yel/"),
]
BCRYPT = [  # made by libxcrypt, cost 4
    ("secret", "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
    ("pässwörd", "$2y$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC"),
]


@pytest.mark.parametrize(("password", "stored"), [*SHA, *(BCRYPT if find_spec("bcrypt") else [])])
def test_a_password_is_known_by_its_hash_and_no_other_is(password: str, stored: str) -> None:
    assert is_password(password.encode(), stored.encode())
    for other in (password + "x", password[:-1] if password else "x", password.upper() + "!", password + "\0", "\0" + password):
        assert not is_password(other.encode(), stored.encode())


def test_what_is_no_hash_is_nobodys() -> None:
    for stored in (b"", b"secret", b"$1$abc$def", b"$6$", b"$6$salt$", b"$7$salt$abc"):
        assert not is_password(b"secret", stored)


def test_a_password_without_end_costs_nothing() -> None:
    longest = "x" * LONGEST_BYTES
    stored = sha_crypt(longest.encode(), b"salt", 1000, True, shown=True)
    assert is_password(longest.encode(), stored)
    too_long = b"x" * (LONGEST_BYTES + 1)
    assert not is_password(too_long, sha_crypt(too_long, b"salt", 1000, True, shown=True))


def test_others_have_their_turn_while_a_password_is_hashed() -> None:
    before, turns = sys.getswitchinterval(), 0
    sys.setswitchinterval(5)  # nobody takes the interpreter's lock away from the thread: it has to let go
    try:
        hashing = threading.Thread(target=sha_crypt, args=(b"secret", b"salt", 20_000, True), kwargs={"shown": True})
        hashing.start()
        while hashing.is_alive():
            hashing.join(0.001)
            turns += 1
    finally:
        sys.setswitchinterval(before)
    assert turns > 5
