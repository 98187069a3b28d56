"""
The chunked coding, in whatever pieces it comes.  (What is refused stands in C{tests/test_refusals.py} too, and h11 has its say in
C{tests/wire/test_h11_oracle.py}.)
"""

from __future__ import annotations

import pytest

from twistproxy.errors import MalformedMessage
from twistproxy.wire.chunked import MAX_EXTENSIONS, ChunkedReader


def read(*pieces: bytes, maxTrailers: int = 1000, maxFields: int = 10) -> tuple[bytes, list[bytes], bytes]:
    """
    @return: payload, trailers and what stands behind; the body must be complete.
    """
    reader = ChunkedReader(maxTrailers, maxFields)
    payload = b"".join(reader.feed(piece) for piece in pieces)
    assert reader.done
    return payload, reader.trailers, reader.rest


def inAllPieces(data: bytes) -> list[list[bytes]]:
    """Whole, cut in two at every place, and byte by byte."""
    cuts = [[data[:at], data[at:]] for at in range(1, len(data))]
    return [[data], *cuts, [data[at : at + 1] for at in range(len(data))]]


GOOD = {
    b"0\r\n\r\n": (b"", []),
    b"5\r\nhello\r\n0\r\n\r\n": (b"hello", []),
    b"5\r\nhello\r\n1\r\n!\r\n000\r\n\r\n": (b"hello!", []),
    b"A\r\n0123456789\r\n00b\r\n0123456789X\r\n0\r\n\r\n": (b"01234567890123456789X", []),
    b'5;a\r\nhello\r\n0;b="\xff;"\t\r\n\r\n': (b"hello", []),
    b"2\r\n\r\n\r\n2\r\n0\r\r\n0\r\n\r\n": (b"\r\n0\r", []),
    b"1\r\nx\r\n0\r\nA: b\r\nC:d\r\n\r\n": (b"x", [b"A: b", b"C:d"]),
    b"0\r\nA: b\r\nhost: c\r\nTrailer: X\r\nSet-Cookie: a\r\nX:\r\n\r\n": (b"", [b"A: b", b"X:"]),
}


@pytest.mark.parametrize("data", GOOD)
def test_good(data: bytes) -> None:
    """B1.6: payload and trailers come out the same in whatever pieces they come; forbidden trailers are dropped."""
    for pieces in inAllPieces(data):
        assert read(*pieces) == (*GOOD[data], b"")
    assert read(data + b"0\r\n\r\nREST") == (*GOOD[data], b"0\r\n\r\nREST")


BAD = [
    b"x", b" ", b"+5", b"-5", b"0x5", b"5 ", b"5\t", b"5\n", b"5\r5", b"5\r\r", b"5;\x00", b"5;\n", b"5;\r;", b"5;\x7f", b";", b"\r\n", b"\n", b"5_0",
    b"00000000000000000", b"00000000000000005\r\nhello", b"8000000000000000\r\n", b"ffffffffffffffff\r\n", b"5\r\nhellox", b"5\r\nhello\n", b"5\r\nhello\rx", b"5\r\nhello0",
    b"0\r\nX\r\n\r\n", b"0\r\n: x\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0\r\nX: y\n",
    b"0\r\nX: a\rb\r\n\r\n", b"0\r\n\n", b"0\n",
]  # fmt: skip


@pytest.mark.parametrize("data", BAD)
def test_bad(data: bytes) -> None:
    """B1.6: whatever might be read in another way is refused as soon as it is there, and no payload of that piece comes out."""
    for before in (b"", b"3\r\nabc\r\n"):
        for pieces in inAllPieces(before + data):
            reader = ChunkedReader(1000, 10)
            with pytest.raises(MalformedMessage) as caught:
                for piece in pieces:
                    reader.feed(piece)
            assert (caught.value.status, reader.done) == (400, False)


def test_extensionsAreBounded() -> None:
    """B1.6: 4 KiB of extensions in all, wherever they stand, whether or not they have come to their end."""
    assert read(b"1;%b\r\nx\r\n0\r\n\r\n" % (b"a" * (MAX_EXTENSIONS - 1)))[0] == b"x"
    small = b"1;%b\r\nx\r\n" % (b"a" * 99)
    assert read(small * (MAX_EXTENSIONS // 100) + b"0\r\n\r\n")[0] == b"x" * 40
    for data in (b"1;%b\r\nx\r\n" % (b"a" * MAX_EXTENSIONS), small * 41, small * 40 + b"1;" + b"a" * 120):
        for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
            reader = ChunkedReader(1000, 10)
            with pytest.raises(MalformedMessage):
                for piece in pieces:
                    reader.feed(piece)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"0\r\nX: " + b"a" * 1000, 431),
        (b"0\r\nX: " + b"a" * 1000 + b"\r\n\r\n", 431),
        (b"0\r\n" + b"X: y\r\n" * 11 + b"\r\n", 431),
    ],
)
def test_trailersAreBounded(data: bytes, status: int) -> None:
    """B1.6: trailers have the limits of heads."""
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        reader = ChunkedReader(1000, 10)
        with pytest.raises(MalformedMessage) as caught:
            for piece in pieces:
                reader.feed(piece)
        assert caught.value.status == status


def test_largeChunk() -> None:
    """B4.1: a chunk goes through in the pieces in which it comes; nothing is held until it is complete."""
    reader = ChunkedReader(1000, 10)
    assert reader.feed(b"7fffffffffffffff\r\nabc") == b"abc"
    piece = b"x" * 32768
    assert reader.feed(piece) is piece
    assert not reader.done
