"""
Bodies that a site has collected.
"""

from __future__ import annotations

from io import BytesIO
from tempfile import TemporaryFile

from tests.support.wire import Receiver
from twistproxy.errors import ClientError
from twistproxy.web.inbound import FileBody, bufferedBody

DATA = bytes(range(256)) * 1024


class Choosy(Receiver):
    """Pauses its producer at each piece."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.producer.pauseProducing()


def test_inMemory() -> None:
    """What is in memory already is given as it is; nothing is nothing."""
    assert bufferedBody(None) == (b"", 0)
    assert bufferedBody(BytesIO(b"")) == (b"", 0)
    content = BytesIO(b"abc")
    content.read()
    assert bufferedBody(content) == (b"abc", 3)


def test_inAFile() -> None:
    """What is in a file is read a piece at a time, as its consumer asks for it."""
    with TemporaryFile() as file:
        file.write(DATA)
        body, length = bufferedBody(file)
        assert (type(body), length, body.length) == (FileBody, len(DATA), len(DATA))
        taker = Choosy()
        body.deliver(taker)
        assert taker.told == [DATA[:65536]]
        while taker.producer is not None:
            taker.producer.resumeProducing()
        assert b"".join(taker.told[:-1]) == DATA
        assert taker.told[-1] == []


def test_stopped() -> None:
    """Who does not want the rest gets no more of it, and no end."""
    with TemporaryFile() as file:
        file.write(DATA)
        body, _ = bufferedBody(file)
        taker = Choosy()
        body.deliver(taker)
        body.stopProducing()
        body.resumeProducing()
        assert taker.told == [DATA[:65536]]


def test_shortened() -> None:
    """A file that has lost its end does not pass for a whole body."""
    body = FileBody(BytesIO(b"abc"), 4)
    taker = Receiver()
    body.deliver(taker)
    assert taker.told == [b"abc", "broken"]
    assert isinstance(taker.error, ClientError)
