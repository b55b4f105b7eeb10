"""Huffman's code as HPACK has it, against the package hpack, which makes the strings and decodes them too."""

from __future__ import annotations

from itertools import product

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman as decode_as_hpack
from hypothesis import given
from hypothesis import strategies as st

from smartedge.http2.blocks import HeaderBlocks
from smartedge.http2.calm import Calm
from smartedge.http2.frames import LinkError
from smartedge.http2.huffman import decode_huffman
from tests.examples import examples

CODE = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
BYTES = [bytes((value,)) for value in range(256)]


def agree(data: bytes) -> None:
    """Both decode it to the same, or both refuse it."""
    try:
        expected = decode_as_hpack(data)
    except HPACKDecodingError:
        with pytest.raises(ValueError, match="Huffman"):
            decode_huffman(data)
    else:
        assert decode_huffman(data) == expected


@given(st.binary(max_size=300))
def test_what_is_encoded_is_decoded(text: bytes) -> None:
    assert decode_huffman(CODE.encode(text)) == text


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\xff", b"\xff\xff", b"\xff\xff\xff", b"\xfe"])).map(b"".join))
def test_any_bytes_are_what_they_are_to_hpack(data: bytes) -> None:
    agree(data)


@pytest.mark.examples
@pytest.mark.parametrize("before", [b"", b"\xff\xff"], ids=["short codes", "long codes"])
def test_all_pairs_of_bytes(before: bytes) -> None:
    for first, second in product(BYTES[:: 100 // examples(20 if before else 100)], BYTES):
        agree(before + first + second)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xff\xff\xff\xff", "EOS"),
        (b"\xff\xff\xff\xfc\x18\x1f", "EOS, and something behind it"),
        (b"\x1f\xff", "more than seven bits"),
        (b"\xff", "nothing but eight bits"),
        (b"\x18", "zeroes"),
    ],
)
def test_a_string_that_is_filled_up_as_it_must_not_be_is_refused(data: bytes, what: str) -> None:
    """RFC 7541 section 5.2."""
    with pytest.raises(ValueError, match="Huffman"):
        decode_huffman(data)


def blocks() -> HeaderBlocks:
    return HeaderBlocks(65536, 0, Calm(0.0, lambda _: None))


FIELD = st.tuples(st.sampled_from([b":path", b"cookie", b"x-a"]) | st.binary(min_size=1, max_size=200), st.binary(max_size=300))


@given(st.lists(st.tuples(st.lists(FIELD), st.booleans()), max_size=4))
def test_blocks_say_the_same_as_to_hpack_alone_one_after_the_other(heads: list[tuple[list[tuple[bytes, bytes]], bool]]) -> None:
    encoder, decoder, ours = Encoder(), Decoder(), blocks()
    for fields, in_code in heads:
        block = encoder.encode([(name.lower(), value) for name, value in fields], huffman=in_code)
        assert list(map(tuple, ours.decode(block))) == list(map(tuple, decoder.decode(block, raw=True)))


@given(st.binary(max_size=40))
def test_any_block_is_what_it_is_to_hpack_alone(block: bytes) -> None:
    try:
        expected = list(map(tuple, Decoder().decode(block, raw=True)))
    except Exception:
        with pytest.raises(LinkError):
            blocks().decode(block)
    else:
        assert list(map(tuple, blocks().decode(block))) == expected
