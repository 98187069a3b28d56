# -*- test-case-name: tests.wire.test_h1server -*-
"""
Writing the responses of a downstream connection, which an exchange asks for by its
L{IDownstream<twistproxy.interfaces.IDownstream>}.

The framing is chosen here (RFC 9112 6.3), whatever framing the upstream had: a length where it is known, chunks for who
understands them, and else the end of the connection.
"""

from __future__ import annotations

from twistproxy.message import Response, TunnelEnd
from twistproxy.rules.fields import EXPECT
from twistproxy.rules.framing import hasNoBody
from twistproxy.wire.bodies import CHUNKED, UNTIL_CLOSE, BodyReader, BodyWriter, TunnelSink, chunk
from twistproxy.wire.h1serverlife import BUSY, CLOSED, TUNNEL, ServerLife
from twistproxy.wire.lines import knownLengthLine, knownStatusLine, lengthLine, statusLine


class ResponseSender(ServerLife):
    """
    The half of L{H1Server<twistproxy.wire.h1server.H1Server>} that writes.
    """

    __slots__ = ()

    def sendInformational(self, status: int, reason: bytes, lines: list[bytes]) -> None:
        """
        See L{IDownstream.sendInformational<twistproxy.interfaces.IDownstream>}.  RFC 9110 15.2: none to an HTTP/1.0
        client.
        """
        if self._request.minor and self._phase == BUSY:
            self.transport.write(b"\r\n".join((statusLine(status, reason), *lines, b"", b"")))

    def sendHead(self, response: Response, length: int | None, content: bytes, end: bool) -> None:
        """
        See L{IDownstream.sendHead<twistproxy.interfaces.IDownstream>}.
        """
        request = self._request
        method = request.method
        status = response.status
        lines = [knownStatusLine((status, response.reason)) or statusLine(status, response.reason), *response.lines]
        if (status != 200 or method == b"HEAD") and hasNoBody(method, status):
            if response.contentLength is not None and status != 204:
                lines.append(b"Content-Length: %d" % response.contentLength)
            length = 0
            content = b""
        elif length is not None:
            lines.append(knownLengthLine(length) or lengthLine(length))
        elif request.minor:
            lines.append(b"Transfer-Encoding: chunked")
            length = CHUNKED
            content = chunk(content) + b"0\r\n\r\n" if end else chunk(content)
        else:
            self._persist = False
            length = UNTIL_CLOSE
        if self._body is not None and not self._body.ended and self._bodyWithheld():
            self._persist = False
        if not self._persist or self._context.draining:
            lines.append(b"Connection: close")
        elif not request.minor:
            lines.append(b"Connection: keep-alive")
        lines += b"", content
        if end:
            self._complete = True
        else:
            self._writer = BodyWriter(self.transport, length if length < 0 else length - len(content))
            self._context.wheel.schedule(self, self._context.writeTicks)
        self.transport.write(b"\r\n".join(lines))

    def _bodyWithheld(self) -> bool:
        """
        @return: whether the client may be waiting for a 100, so that nobody can say whether a body will follow the
            final response or not (RFC 9110 10.1.1).
        """
        return any(field[0] == EXPECT for field in self._request.fields)

    def closeBehind(self) -> None:
        """
        Close the connection behind the response, whose head is still to be sent.
        """
        self._persist = False

    def write(self, data: bytes) -> None:
        """
        See L{IDownstream.write<twistproxy.interfaces.IDownstream>}.
        """
        if self._writer is not None:
            self._writer.write(data)

    def finish(self, trailers: list[bytes]) -> None:
        """
        See L{IDownstream.finish<twistproxy.interfaces.IDownstream>}.
        """
        if self._writer is not None:
            self._writer.finish(trailers)
            self._complete = True

    def abort(self) -> None:
        """
        See L{IDownstream.abort<twistproxy.interfaces.IDownstream>}.  Without its terminal chunk, or short of its
        length, a body cannot be taken for complete; one that ends with the connection can, unless the connection is
        reset.
        """
        if self._phase != CLOSED:
            untilClose = self._writer is not None and self._writer.untilClose
            self._close(abort=untilClose)

    def switchProtocols(self, response: Response) -> TunnelEnd:
        """
        See L{IDownstream.switchProtocols<twistproxy.interfaces.IDownstream>}.
        """
        self._phase = TUNNEL
        self._context.wheel.cancel(self)
        held, self._buffer = self._buffer, b""
        lines = [statusLine(101, response.reason), *response.lines, b"", b""]
        self.transport.write(b"\r\n".join(lines))
        self._body = BodyReader(self.transport, UNTIL_CLOSE, held)
        sink = TunnelSink(self.transport, self.setProducer)
        return TunnelEnd(self._body, sink, self._close, self.transport.abortConnection, self.transport)
