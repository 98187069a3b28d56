"""
A client that speaks HTTP/2 over TLS, for stories: the C{h2} library on Twisted's own transports.

The library refuses what no server may send, connection fields and broken framing among it: L{H2Client.fault} says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from tests.net.peers import until

_OCTETS = 16384


class Stream:
    """
    One request and its response.

    @ivar fields: of the response, in order.
    @ivar ended: whether the response is complete.
    @ivar reset: the code with which the server has reset it.
    @ivar takes: whether what comes is acknowledged, so that more may come.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.interims: list[int] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.ended = False
        self.reset: int | None = None
        self.takes = True
        self.owed = 0

    def __getitem__(self, name: bytes) -> bytes | None:
        """The first value of a field, or C{None}."""
        return next((value for known, value in self.fields if known == name), None)


class H2Client(Protocol):
    """
    One connection.

    @ivar fault: what the server has done that no server may.
    @ivar goneAway: the code of its GOAWAY.
    @ivar lost: whether the connection has ended.
    """

    def __init__(self, window: int | None = None) -> None:
        """
        @param window: how much the client is ready to take, per stream and in all, in bytes.
        """
        self.streams: dict[int, Stream] = {}
        self.fault: Exception | None = None
        self.goneAway: int | None = None
        self.lost = False
        self._window = window
        self._wire = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))

    @classmethod
    async def connect(cls, reactor: Any, port: int, authority: Path, window: int | None = None) -> H2Client:
        """
        @param authority: the certificate (PEM) of the authority to trust.
        """
        root = trustRootFromCertificates([Certificate.loadPEM(authority.read_bytes())])
        options = optionsForClientTLS("localhost", trustRoot=root, acceptableProtocols=[b"h2"])
        endpoint = wrapClientTLS(options, HostnameEndpoint(reactor, "127.0.0.1", port))
        client: H2Client = await connectProtocol(endpoint, cls(window))
        # Twisted's TLS says that it is connected before the handshake is over.
        await until(lambda: client.transport.negotiatedProtocol == b"h2" or client.lost, "the handshake")
        assert not client.lost
        return client

    def connectionMade(self) -> None:
        self._wire.initiate_connection()
        if self._window is not None:
            self._wire.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: self._window})
            self._wire.increment_flow_control_window(self._window)
        self._flush()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True

    def dataReceived(self, data: bytes) -> None:
        try:
            events = self._wire.receive_data(data)
        except h2.exceptions.ProtocolError as fault:
            self.fault = fault
            self.transport.abortConnection()
            return
        for event in events:
            self._take(event)
        self._flush()

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goneAway = event.error_code
        stream = self.streams.get(getattr(event, "stream_id", 0))
        if stream is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            stream.interims.append(int(dict(event.headers)[b":status"]))
        elif isinstance(event, h2.events.ResponseReceived):
            stream.status = int(dict(event.headers)[b":status"])
            stream.fields = [(name, value) for name, value in event.headers if name != b":status"]
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            stream.owed += event.flow_controlled_length
            if stream.takes:
                self.take(stream)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = event.error_code

    def take(self, stream: Stream) -> None:
        """Acknowledge what has come, so that as much may follow."""
        owed, stream.owed = stream.owed, 0
        if owed and not self.lost:
            self._wire.acknowledge_received_data(owed, stream.number)
            self._flush()

    def _flush(self) -> None:
        data = self._wire.data_to_send()
        if data:
            self.transport.write(data)

    def ask(
        self,
        method: str = "GET",
        path: str = "/",
        fields: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        authority: str | None = "story.test",
        end: bool = True,
    ) -> Stream:
        """
        Send a request.

        @param end: whether it is complete; otherwise L{send} goes on.
        """
        number = self._wire.get_next_available_stream_id()
        stream = self.streams[number] = Stream(number)
        pseudo = [(":method", method), (":scheme", "https"), (":path", path)]
        if authority is not None:
            pseudo.insert(2, (":authority", authority))
        self._wire.send_headers(number, [*pseudo, *fields], end_stream=end and body is None)
        self._flush()
        if body is not None:
            self._send(stream, body, end)
        return stream

    def _send(self, stream: Stream, data: bytes, end: bool) -> None:
        for piece in pieces(data):
            self._wire.send_data(stream.number, piece)
        if end:
            self._wire.end_stream(stream.number)
        self._flush()

    async def send(self, stream: Stream, data: bytes, end: bool = True) -> None:
        """Send a body, as fast as the server takes it."""
        for piece in pieces(data):
            await until(
                lambda piece=piece: self._wire.local_flow_control_window(stream.number) >= len(piece) or self.lost,
                "the server's window",
            )
            assert not self.lost
            self._wire.send_data(stream.number, piece)
            self._flush()
        if end:
            self._wire.end_stream(stream.number)
            self._flush()

    def finish(self, stream: Stream, trailers: tuple[tuple[str, str], ...]) -> None:
        """End a request with trailers."""
        self._wire.send_headers(stream.number, trailers, end_stream=True)
        self._flush()

    def cancel(self, stream: Stream) -> None:
        """Give up a stream."""
        self._wire.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    async def response(self, stream: Stream) -> Stream:
        """
        @return: the stream, when its response is complete.
        """
        await until(lambda: stream.ended or stream.reset is not None or self.lost, f"a response: {vars(stream)}")
        assert (self.fault, stream.ended) == (None, True), (self.fault, stream.reset, self.goneAway)
        return stream

    def close(self) -> None:
        """End the connection."""
        if not self.lost:
            self.transport.abortConnection()


def pieces(data: bytes) -> Iterator[bytes]:
    """
    @return: the data in pieces that fit into frames.
    """
    for at in range(0, len(data), _OCTETS):
        yield data[at : at + _OCTETS]
