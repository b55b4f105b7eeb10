"""Header compression as a client does it: RFC 7541, and RFC 9113 section 4.3. Blocks are written byte by byte here."""

from __future__ import annotations

import pytest
from hpack import Decoder

from smartedge.server.server import EdgeServer
from tests.http2.client import GET, block, client, headers, integer, literal, settings
from tests.http2.house import Case

STATIC = b"\x82\x86\x84"
"""GET, http and /, by reference."""

PLAIN = block(GET)
BROKEN = "GOAWAY COMPRESSION_ERROR"
INTO_TABLE = 0x40
NEWEST = b"\xbe"
"""Index 62."""


def asks(what: str, *blocks: bytes, comes: str = "200", section: str = "7541", **has: object) -> Case:
    """Blocks, of stream 1 the last one; those before it go to later streams' numbers of other cases."""
    return Case(section, what, tuple(headers(1 + 2 * at, one) for at, one in enumerate(blocks)), comes, has=dict(has))


HOST = b"\x41\x01h"
ASK = STATIC + HOST
"""Puts :authority into the table."""

CASES = [
    asks("fields by reference and a name by reference", ASK, section="7541 6.1"),
    asks("a name by reference, into no table", STATIC + b"\x01\x01h", section="7541 6.2.2"),
    asks("a name by reference, never into a table", STATIC + b"\x11\x01h", section="7541 6.2.3"),
    asks("literals of each kind", PLAIN + literal(b"a", b"1", 0) + literal(b"b", b"2", 0x10) + literal(b"c", b"3", INTO_TABLE),
         section="7541 6.2", A="1", B="2", C="3"),
    asks("Huffman's code", STATIC + b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", section="7541 C.4.1",
         HOST="www.example.com"),
    asks("what one block has put into the table", STATIC + HOST + literal(b"x-one", b"two", INTO_TABLE) + NEWEST,
         section="7541 2.3.3", X_ONE="two,two"),
    asks("an index of nothing", b"\x80" + PLAIN, comes=BROKEN, section="7541 6.1"),
    asks("an index beyond the tables", STATIC + HOST + b"\xbf", comes=BROKEN, section="7541 2.3.3"),
    asks("an index beyond an empty table", NEWEST, comes=BROKEN, section="7541 2.3.3"),
    asks("a name beyond the tables", STATIC + b"\x7f\x00\x01h", comes=BROKEN, section="7541 2.3.3"),
    asks("a number that does not end", STATIC + b"\xff" + b"\x80" * 20, comes=BROKEN, section="7541 5.1"),
    asks("a number beyond all tables", STATIC + integer(2**40, 7, 0x80), comes=BROKEN, section="7541 5.1"),
    asks("a name that is longer than its block", STATIC + b"\x00\x7f\x10x", comes=BROKEN, section="7541 5.2"),
    asks("a value that is longer than its block", STATIC + b"\x41\x05h", comes=BROKEN, section="7541 5.2"),
    asks("a block that ends within a field", STATIC + b"\x41", comes=BROKEN, section="7541 6.2"),
    asks("EOS in Huffman's code", STATIC + b"\x41\x84\xff\xff\xff\xff", comes=BROKEN, section="7541 5.2"),
    asks("Huffman's padding of eight bits", STATIC + b"\x41\x82\x9f\xff", comes=BROKEN, section="7541 5.2"),
    asks("Huffman's padding of zeroes", STATIC + b"\x41\x81\x98", comes=BROKEN, section="7541 5.2"),
    asks("a smaller table", b"\x20" + PLAIN, section="7541 6.3"),
    asks("a smaller table and then a larger one", b"\x20\x3f\xe1\x1f" + ASK, section="7541 6.3"),
    asks("a table larger than we allow", b"\x3f\xe2\x1f" + PLAIN, comes=BROKEN, section="7541 6.3"),
    asks("a new size that is not at the beginning", STATIC + b"\x20" + HOST, comes=BROKEN, section="7541 4.2"),
    asks("a table of no size keeps nothing", b"\x20" + STATIC + HOST + literal(b"x", b"y", INTO_TABLE) + NEWEST, comes=BROKEN,
         section="7541 4.4"),
    asks("a new size throws out what does not fit", STATIC + HOST + literal(b"x", b"y", INTO_TABLE), b"\x3f\x03" + STATIC + NEWEST
         + b"\xbf", comes=BROKEN, section="7541 4.3"),
    asks("an entry larger than the table empties it", STATIC + HOST + literal(b"x", b"y" * 3000, INTO_TABLE)
         + literal(b"x", b"z" * 500, INTO_TABLE) + literal(b"w", b"v" * 4080, INTO_TABLE) + NEWEST, comes=BROKEN,
         section="7541 4.4"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_header_compression(server: EdgeServer, case: Case) -> None:
    case.play(server.server_port)


def test_the_table_lives_as_long_as_the_connection(server: EdgeServer) -> None:
    """7541 2.2; and what was said by reference alone means something else once the table has changed."""
    with client(server.server_port) as one:
        by_reference = STATIC + NEWEST
        one.send(headers(1, STATIC + literal(b":authority", b"first", INTO_TABLE)))
        for stream in (3, 5):
            one.send(headers(stream, by_reference))
        one.send(headers(7, STATIC + literal(b":authority", b"second", INTO_TABLE)), headers(9, by_reference))
        hosts = [bytes(one.answer(at).body).partition(b'"HOST": "')[2].partition(b'"')[0] for at in (1, 3, 5, 7, 9)]
        assert hosts == [b"first", b"first", b"first", b"second", b"second"]


def test_the_same_bytes_mean_something_else_after_a_new_size_of_the_table(server: EdgeServer) -> None:
    with client(server.server_port) as one:
        one.send(headers(1, STATIC + literal(b":authority", b"first", INTO_TABLE)), headers(3, STATIC + NEWEST))
        assert one.answer(3).status == 200
        one.send(headers(5, b"\x20" + PLAIN), headers(7, STATIC + NEWEST))
        assert one.end() == "COMPRESSION_ERROR"


def test_a_block_without_a_field_is_no_request(server: EdgeServer) -> None:
    with client(server.server_port) as one:
        assert one.ask(1, b"").reset == "PROTOCOL_ERROR"
        assert one.ask(3).status == 200


@pytest.mark.parametrize("size", [0, 100, 4096, 2**32 - 1])
def test_answers_need_no_table_whatever_size_the_client_allows(server: EdgeServer, size: int) -> None:
    """7541 4.2 and 6.3: the first block says so where the client wants a smaller one."""
    with client(server.server_port, (1, size)) as one:
        one._decoder = Decoder(max_header_list_size=1 << 20)
        one._decoder.max_allowed_table_size = size
        assert [one.ask(stream).status for stream in (1, 3)] == [200, 200]
        one.send(settings((1, 0)))
        one.synced()
        one._decoder.max_allowed_table_size = 0
        assert one.ask(5).status == 200
