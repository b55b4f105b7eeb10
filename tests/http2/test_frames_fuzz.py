"""Whatever frames a client sends, in whatever order and pieces: nothing but LinkError comes of it, and the windows add up."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from smartedge.http2.frames import LinkError
from smartedge.http2.link import Link, LinkLimits
from smartedge.http2.receive import Receiver
from smartedge.http2.stream import Stream
from tests.examples import examples
from tests.http2 import client as c
from tests.peers import wire_pair

LIMITS = LinkLimits(streams=4, window_bytes=700, link_window_bytes=70000, head_bytes=1000)

ids = st.sampled_from([0, 1, 2, 3, 5, 7, 9, 11])
bodies = st.binary(max_size=600)
flags = st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 0x24, 0x25, 0x2D, 0xFF])
blocks = st.sampled_from(
    [c.block(c.GET), c.block(c.POST), b"\x82\x86\x84\x41\x01h", b"", b"\xbe", b"\x20", c.block(((b"X", b""),))]
)
numbers = st.sampled_from([0, 1, 100, 65535, 2**31 - 1, 2**31])

well_made = st.one_of(
    st.builds(c.headers, st.sampled_from([1, 3, 5, 7, 9, 11]), blocks, st.sampled_from([4, 5])),
    st.builds(lambda at, body, end: c.data(at, body, end=end), ids, bodies, st.booleans()),
    st.builds(lambda at, body: c.frame(0, 8, at, bytes([len(body)]) + bytes(2 * len(body))), ids, st.binary(max_size=200)),
    st.builds(c.rst, ids),
    st.builds(c.window, ids, numbers),
    st.builds(lambda name, value: c.settings((name, value)), st.integers(0, 9), numbers),
    st.builds(c.continuation, ids, blocks, st.sampled_from([0, 4])),
    st.builds(c.priority, ids, ids),
    st.just(c.ping()),
    st.just(c.goaway()),
)
anything = st.builds(c.frame, st.integers(0, 17), flags, ids, bodies)


WHAT = "open open get data data data padded padded end rst late window ping trailers shrink".split()  # noqa: SIM905
acts = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 5), st.integers(0, 255)), max_size=60)


def said_by(steps: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Frames of a client that minds what all of a connection rests on, and little else."""
    frames, live, gone, following = [], [], [], 1
    for what, which, size in steps:
        if what in ("open", "get"):
            frames.append(c.open_headers(following, c.POST) if what == "open" else c.headers(following, c.GET))
            if what == "open":
                live.append(following)
            following += 2
        elif what in ("ping", "shrink"):
            frames.append(c.ping() if what == "ping" else c.settings((4, size)))
        elif what == "late" and gone:
            frames.append(c.data(gone[which % len(gone)], b"x" * size))
        elif live:
            at = live[which % len(live)]
            frames.append(
                {
                    "data": c.data(at, b"x" * 3 * size),
                    "padded": c.frame(0, c.PADDED, at, bytes([size]) + b"x" + bytes(size)),
                    "end": c.data(at, b"x" * size, end=True),
                    "rst": c.rst(at),
                    "window": c.window(at, size),
                    "trailers": c.headers(at, ((b"x", b"y"),)),
                }.get(what, c.ping())
            )
            if what in ("end", "rst", "trailers"):
                live.remove(at)
            if what == "rst":
                gone.append(at)
    return frames


@settings(max_examples=examples(300))
@given(acts, st.lists(st.integers(1, 400), max_size=6), st.lists(st.sampled_from(["read", "reset", "nothing"]), max_size=20))
def test_a_client_that_minds_its_connection_keeps_it(
    steps: Sequence[tuple[str, int, int]], cuts: Sequence[int], answers: Sequence[str]
) -> None:
    assert outcome(b"".join(said_by(steps)), cuts, answers) == 0


@settings(max_examples=examples(300))
@given(st.lists(st.one_of(well_made, well_made, anything), max_size=30), st.lists(st.integers(1, 40), max_size=6))
def test_whatever_frames_come_the_connection_ends_by_a_code_or_goes_on(frames: Sequence[bytes], cuts: Sequence[int]) -> None:
    assert outcome(b"".join(frames), cuts, ()) < len(c.CODES)


def outcome(said: bytes, cuts: Sequence[int], answers: Sequence[str]) -> int:
    """Have a Receiver take this in pieces, and streams be answered meanwhile; the code of the connection's end, 0 without one."""
    ours, theirs = wire_pair()
    opened: list[Stream] = []
    link = Link(ours, LIMITS, is_server=True, on_stream=opened.append)
    receiver = Receiver(link)
    whole = c.PREFACE + c.settings() + said
    try:
        for size in (*cuts, len(whole)):
            receiver.receive(whole[:size])
            whole = whole[size:]
            for stream, how in zip(opened, answers, strict=False):
                if how == "read" and stream._chunks:
                    stream.read(0.1)
                elif how == "reset" and size % 2:
                    stream.reset()
            waiting = sum(sum(map(len, stream._chunks)) for stream in link.streams.values())
            assert link.recv_window + link._owed + waiting == LIMITS.link_window_bytes
            for stream in link.streams.values():
                held = sum(map(len, stream._chunks))
                assert 0 <= held <= LIMITS.window_bytes
                assert stream.recv_window + stream._owed + held == LIMITS.window_bytes
    except LinkError as found:
        return found.code
    finally:
        link.lose("the test is over")
        ours.close()
        theirs.close()
    return 0
