"""Chunked bodies: the decoder against a slow reading of RFC 9112 section 7.1, whole, in pieces and damaged."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smartedge.http.chunked import LAST_CHUNK, ChunkedDecoder, ChunkedError, chunk, whole_body
from smartedge.http.headers import last_chunk
from tests.examples import examples

TOKEN_BYTE = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
BLANKS = rb"[ \t]*"
CHUNK_EXT = rb"(?:%b;%b%b+(?:%b=%b(?:%b+|%b))?)*" % (BLANKS, BLANKS, TOKEN_BYTE, BLANKS, BLANKS, TOKEN_BYTE, QUOTED)
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)" + CHUNK_EXT)

TRAILER_LINE = re.compile(rb"(%b+):[ \t]*([\t \x21-\x7e\x80-\xff]*?)[ \t]*" % TOKEN_BYTE)


@dataclass
class Read:
    """What became of some bytes: the body so far, and when it is complete what came with and behind it."""

    body: bytes = b""
    complete: bool = False
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    rest: bytes = b""


def reference(data: bytes) -> Read | None:
    """Read a chunked body line by line; None when it is none. Bytes that are missing make it incomplete."""
    read = Read()
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return read
        found = CHUNK_LINE.fullmatch(line)
        if not found:
            return None
        size = int(found[1], 16)
        if size == 0:
            break
        read.body += data[:size]
        if len(data) < size + 2:
            return read
        if data[size : size + 2] != b"\r\n":
            return None
        data = data[size + 2 :]
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return read
        if not line:
            read.complete = True
            read.rest = data
            return read
        found = TRAILER_LINE.fullmatch(line)
        if not found:
            return None
        read.trailers += ((found[1], found[2]),)


def decode(*pieces: bytes) -> Read | None:
    """The same from the decoder, which gets the pieces one after the other; None when it raises."""
    decoder, body, rest = ChunkedDecoder(), b"", b""
    for piece in pieces:
        if decoder.complete:
            rest += piece  # Nobody feeds on behind the end.
            continue
        try:
            body += b"".join(decoder.feed(piece))
        except ChunkedError:
            return None
    trailers = tuple((name, value.strip(b" \t")) for name, value in decoder.trailers)
    return Read(body, decoder.complete, trailers, decoder.rest + rest)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut `data` at these places, wherever they fall."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end]


# ---- what it is fed with ----

cuts = st.lists(st.integers(0, 2**16), max_size=8)
pieces = st.binary(min_size=1, max_size=20) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"x" * 300])
extensions = st.sampled_from([b"", b"", b";a", b";a=b", b';a="q \\" q"', b";a=1;b=2", b"; a=b", b" ;a=b", b'\t; a = "q" ;b'])
sizes = st.sampled_from([b"%x", b"%X", b"%04x", b"%020x"])
trailers = st.lists(
    st.sampled_from([b"X: 1\r\n", b"x-y:\tz \r\n", b"Empty:\r\n", b"X: \xff\r\n", b"Checksum: a:b\r\n"]), max_size=3
)
rests = st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\0\xff"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    wire = b""
    for piece in draw(st.lists(pieces, max_size=6)):
        wire += draw(sizes) % len(piece) + draw(extensions) + b"\r\n" + piece + b"\r\n"
    return wire + draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n" + b"".join(draw(trailers)) + b"\r\n"


ODDITIES = [
    b"",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b";",
    b"=",
    b'"',
    b"0",
    b"f",
    b"g",
    b"-",
    b"+",
    b"0x",
    b"_",
]
ODDITIES += [b":", b"\x7f", b"\x80", b"ffffffffffffffff", b"10000000000000000", b"Content-Length: 1\r\n"]
damage = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 3), st.sampled_from(ODDITIES)), min_size=1, max_size=3)


def damaged(data: bytes, damages: list[tuple[int, int, bytes]]) -> bytes:
    """Replace a few bytes here and there by what should not be there."""
    for place, length, oddity in damages:
        at = place % (len(data) + 1)
        data = data[:at] + oddity + data[at + length :]
    return data


# ---- tests ----


@given(bodies(), rests, cuts)
@example(b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", [3, 4, 5, 6, 7])
@example(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", [])
@example(b"0\r\nX: 1\r\n\r\n", b"\r\nGET /", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
def test_a_body_in_any_pieces_is_what_the_reference_reads_and_what_follows_it_is_left_alone(
    body: bytes, rest: bytes, places: list[int]
) -> None:
    expected = reference(body + rest)
    assert expected is not None
    assert expected.complete
    assert expected.rest == rest
    assert decode(body + rest) == expected
    assert decode(*split(body + rest, places)) == expected


@settings(max_examples=examples(50))
@given(bodies(), rests)
def test_a_body_byte_by_byte_is_the_same_body(body: bytes, rest: bytes) -> None:
    whole = body + rest
    assert decode(*(whole[i : i + 1] for i in range(len(whole)))) == reference(whole)


@given(bodies(), cuts, st.integers(0, 2**16))
def test_a_body_that_is_cut_is_not_complete_and_nothing_of_it_is_lost_or_made_up(
    body: bytes, places: list[int], end: int
) -> None:
    cut = body[: end % len(body)]
    expected = reference(cut)
    assert expected is not None
    assert not expected.complete
    found = decode(*split(cut, places))
    assert found is not None
    assert (found.body, found.complete) == (expected.body, False)


@given(bodies(), rests, damage, cuts)
@example(b"1\r\na\r\n0\r\n\r\n", b"", [(4, 2, b"\n")], [])
@example(b"1;a=b\r\na\r\n0\r\n\r\n", b"", [(5, 1, b"")], [])
def test_a_damaged_body_is_refused_or_read_as_the_reference_reads_it(
    body: bytes, rest: bytes, damages: list[tuple[int, int, bytes]], places: list[int]
) -> None:
    data = damaged(body + rest, damages)
    found, expected = decode(*split(data, places)), reference(data)
    if found is None:
        return
    if found.complete:
        assert found == expected
    elif expected is not None:
        assert not expected.complete
        assert found.body == expected.body
    whole = decode(data)
    assert whole == found  # Where the pieces end makes no difference.


@given(bodies(), damage)
def test_what_the_reference_refuses_never_completes(body: bytes, damages: list[tuple[int, int, bytes]]) -> None:
    data = damaged(body, damages)
    if reference(data) is None:
        found = decode(data)
        assert found is None or not found.complete


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5))
def test_what_is_wrapped_is_taken_apart_again(parts: list[bytes]) -> None:
    wire = b"".join(map(chunk, parts)) + LAST_CHUNK
    assert decode(wire) == reference(wire) == Read(b"".join(parts), complete=True)


@settings(max_examples=examples(200))
@given(bodies(), damage)
def test_what_is_taken_whole_is_what_the_reference_reads(body: bytes, damages: list[tuple[int, int, bytes]]) -> None:
    data = damaged(body, damages)
    whole = whole_body(data)
    assert whole is None or reference(data) == Read(whole, complete=True)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5))
def test_what_is_wrapped_is_taken_whole(parts: list[bytes]) -> None:
    assert whole_body(b"".join(map(chunk, parts)) + LAST_CHUNK) == b"".join(parts)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1\r\na\r\n",
        b"5\r\n0\r\n\r\n",  # what ends it is data of a chunk that goes on, or all of one
        b"a\r\n12345" + LAST_CHUNK,
        b"5\r\n" + LAST_CHUNK,
        b"ffffffffffffffff\r\n" + LAST_CHUNK,
        LAST_CHUNK * 2,  # it ends, and something lies behind it
        b"1\r\na\r\n" + LAST_CHUNK + b"1\r\nb\r\n" + LAST_CHUNK,
        b"2\r\na\r\n" + LAST_CHUNK,
        b"1\r\nab\r\n" + LAST_CHUNK,
        b"1;a=b\r\na\r\n" + LAST_CHUNK,  # these are bodies for a decoder
        b"1\r\na\r\n0\r\nX: y\r\n\r\n",
        b"1 \r\na\r\n" + LAST_CHUNK,
    ],
)
def test_what_is_less_or_more_than_a_plain_body_is_not_taken_whole(data: bytes) -> None:
    assert whole_body(data) is None


def test_nothing_behind_the_end_is_looked_at() -> None:
    """llhttp would go on with the next request, and refuse this one for what follows it."""
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\na\r\n0\r\n\r\n\0 this is not HTTP \r\n\r\n") == [b"a"]
    assert decoder.complete
    assert decoder.rest == b"\0 this is not HTTP \r\n\r\n"


@pytest.mark.parametrize("size", [b"10000000000000000", b"f" * 17, b"1" + b"0" * 16 + b"5", b"f" * 1000])
def test_a_size_beyond_64_bits_is_refused(size: bytes) -> None:
    assert decode(size + b"\r\nhello\r\n0\r\n\r\n") is None


def test_a_huge_chunk_takes_no_room_before_it_arrives() -> None:
    assert decode(b"ffffffffffffffff\r\nhello") == Read(b"hello")


# Limits. What is not the body itself must not grow without end: it is kept nowhere, but read for ever.


def feed_again_and_again(decoder: ChunkedDecoder, data: bytes) -> None:
    """Up to 40 kB of it, or one time more."""
    for _ in range(40_000 // len(data) + 1):
        decoder.feed(data)


@pytest.mark.parametrize("length", [1, 100, 16_000])
def test_an_extension_may_be_long(length: int) -> None:
    wire = b"1;" + b"x" * length + b"\r\na\r\n0\r\n\r\n"
    assert decode(wire) == Read(b"a", complete=True)


@pytest.mark.parametrize("step", [1000, 17_000])
def test_an_extension_that_does_not_end_is_refused(step: int) -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"1;a")
    with pytest.raises(ChunkedError, match="too long"):
        feed_again_and_again(decoder, b"x" * step)


def test_trailers_that_do_not_end_are_refused() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\n")
    with pytest.raises(ChunkedError, match="too long"):
        feed_again_and_again(decoder, b"X: y\r\n")
    assert not decoder.complete


def test_extensions_count_over_the_whole_body() -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(ChunkedError, match="too long"):
        feed_again_and_again(decoder, b"1;" + b"x" * 100 + b"\r\na\r\n")


def test_a_body_in_the_smallest_chunks_has_no_limit() -> None:
    decoder = ChunkedDecoder()
    for _ in range(200):
        assert b"".join(decoder.feed(b"0001;e=f\r\na\r\n" * 100)) == b"a" * 100
    decoder.feed(LAST_CHUNK)
    assert decoder.complete


def test_the_data_of_a_chunk_does_not_count_as_overhead() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"100000\r\n")
    for _ in range(16):
        assert decoder.feed(b"\r\n\r\n" * 16384) != []
    decoder.feed(b"\r\n0\r\n\r\n")
    assert decoder.complete


@pytest.mark.parametrize("name", [b"Content-Length: 5", b"Transfer-Encoding: gzip"])
def test_framing_in_trailers_is_refused_from_clients_and_means_nothing_from_backends(name: bytes) -> None:
    """An answer with a trailer of that name broke off, although it was complete."""
    wire = b"1\r\na\r\n0\r\n" + name + b"\r\n\r\n"
    assert decode(wire) is None
    decoder = ChunkedDecoder(from_backend=True)
    assert decoder.feed(wire) == [b"a"]
    assert decoder.complete
    assert last_chunk(decoder.trailers) == LAST_CHUNK


@pytest.mark.parametrize("line", [b"2; a=b", b"2 ;a=b", b"2\t;\ta \t=\t b ; c", b'2 ; a = "x ; y"', b"02;a;b"])
def test_blanks_around_extensions_are_parsed_from_both_sides(line: bytes) -> None:
    """RFC 9112 section 7.1.1: bad whitespace, which a recipient MUST parse. They were a 400 and a 502."""
    wire = line + b"\r\nhi\r\n0" + line.lstrip(b"02") + b"\r\n\r\n"
    for decoder in (ChunkedDecoder(), ChunkedDecoder(from_backend=True)):
        assert b"".join(decoder.feed(wire)) == b"hi"
        assert decoder.complete


@pytest.mark.parametrize("line", [b"2;", b"2;;", b"2;a b", b"2;a=", b"2;=b", b"2 a", b'2;a="b', b"2;a=b ", b"2;a\x01", b"2;\x7f"])
def test_what_is_no_extension_is_refused_from_clients(line: bytes) -> None:
    assert decode(line + b"\r\nhi\r\n0\r\n\r\n") is None


@pytest.mark.parametrize("begun", [b"zz", b"-1", b"3\n", b"\n", b"3;a\n", b"3\r\nabcd", b"3\r\nabc\n", b"0\r\nX: a\n", b" 3"])
def test_what_can_be_no_beginning_is_refused_without_waiting_for_its_end(begun: bytes) -> None:
    assert decode(begun) is None


def test_blanks_without_end_take_no_time() -> None:
    """A line of blanks must not be tried in every way there is to split them."""
    for line in (b"1" + b" " * 16_000, b"1;a" + b" \t" * 8_000, b"1;a=" + b" " * 16_000, b'1;a="' + b"\\" * 16_000):
        assert decode(line + b"\r\nx") is None
    assert decode(b"0\r\nX:" + b" " * 16_000 + b"\1\r\n\r\n") is None


@pytest.mark.parametrize("wire", [b"5 \r\nhello\r\n0\r\n\r\n", b"005   \r\nhello\r\n0  \r\n\r\n"])
def test_blanks_behind_a_size_are_taken_from_backends_only(wire: bytes) -> None:
    decoder = ChunkedDecoder(from_backend=True)
    assert b"".join(decoder.feed(wire)) == b"hello"
    assert decoder.complete
    assert decode(wire) is None


@pytest.mark.parametrize("size", [b" 5", b"5 5", b"5 x", b"+5", b""])
def test_nothing_else_is_taken_for_a_padded_size(size: bytes) -> None:
    with pytest.raises(ChunkedError):
        ChunkedDecoder(from_backend=True).feed(size + b"\r\nhello\r\n0\r\n\r\n")
