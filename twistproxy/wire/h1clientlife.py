# -*- test-case-name: tests.wire.test_h1client,tests.wire.test_h1_time -*-
"""
The life of an upstream connection: its phases, its limits of time, and all the ways in which it ends.

A connection is in one of five phases::

    IDLE --begin--> WAIT --final head--> BODY --its end--> IDLE
                     |                      (a body that came with its head goes straight back to IDLE)
                     `--101--> TUNNEL
    any --lost, broken, timed out, aborted--> CLOSED

Whoever waits for its response is told of its end once, with what of the request may have reached the upstream: that
decides whether it can be tried again.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from twistproxy.errors import ProxyError, Sent, Stage, UpstreamError, UpstreamTimeout
from twistproxy.message import TunnelEnd, UpstreamResponse
from twistproxy.wire.bodies import BodyReader, BodyWriter
from twistproxy.wire.connection import H1Connection
from twistproxy.wire.context import ClientContext, ClientTicks

IDLE, WAIT, BODY, TUNNEL, CLOSED = range(5)


class ClientLife(H1Connection):
    """
    What L{H1Client<twistproxy.wire.h1client.H1Client>} is before it sends or receives anything: its state, and its end.

    The state is set up by L{H1Client<twistproxy.wire.h1client.H1Client>}, in one C{__init__} for all its bases.

    @ivar reused: whether it has carried a request before the present one.
    """

    __slots__ = (
        "_body", "_context", "_interims", "_outbound", "_owner", "_phase", "_receiver", "_requestBody", "_response",
        "_ticks", "_tunnel", "_writer", "reused",
    )  # fmt: skip

    _body: BodyReader | None
    _context: ClientContext
    _interims: int
    _outbound: Any
    _owner: Any
    _phase: int
    _receiver: Any
    _requestBody: Any
    _response: UpstreamResponse | None
    _ticks: ClientTicks
    _tunnel: TunnelEnd | None
    _writer: BodyWriter | None
    reused: bool

    # -- how far it has come

    @property
    def stage(self) -> Stage:
        """
        How far the exchange on this connection has come.
        """
        if self._phase == BODY or self._phase == TUNNEL:
            return Stage.BODY if self._phase == BODY else Stage.TUNNEL
        return Stage.WAIT if self._requestBody is None else Stage.SEND

    def _sent(self) -> Sent:
        """
        @return: how much of the request may have reached the upstream.
        """
        if self._writer is None or self._writer.complete:
            return Sent.ALL
        return Sent.SOME

    # -- time

    @property
    def limitName(self) -> str:
        """
        See L{Timed.limitName<twistproxy.deadlines.Timed>}.
        """
        if self._phase == WAIT:
            return "responseHead" if self._requestBody is None else "write"
        return {IDLE: "upstreamIdle", BODY: "responseBody"}.get(self._phase, "write")

    def timedOut(self) -> None:
        """
        See L{Timed.timedOut<twistproxy.deadlines.Timed>}.
        """
        wheel = self._context.wheel
        if self._phase == IDLE:
            self._discard()
        elif self._phase == WAIT:
            if self._requestBody is None:
                self._fail(UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL))
            elif self._stalled():
                self._fail(UpstreamTimeout("write", Stage.SEND, Sent.SOME))
            else:
                # it is the client that is slow, and that has a limit of its own
                wheel.schedule(self, self._ticks.write)
        elif self._phase == BODY:
            if self._body is not None and self._body.paused:
                wheel.schedule(self, self._ticks.responseBody)
            else:
                self._fail(UpstreamTimeout("responseBody", Stage.BODY, Sent.ALL))
        elif self._phase == CLOSED:
            # it may take its time for the end of a tunnel, but not for nothing
            if self._stalled() or not self._unsent:
                self.transport.abortConnection()
            else:
                wheel.schedule(self, self._ticks.write)

    # -- the upstream has ended it

    def readConnectionLost(self) -> None:
        """
        End of file: in a tunnel it travels on, elsewhere the upstream has finished with us.
        """
        if self._phase == TUNNEL:
            if self._body is not None:
                self._body.finished()
        else:
            self._ended(True)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        self._ended(reason.check(ConnectionDone) is not None)

    def _ended(self, clean: bool) -> None:
        """
        Nothing more will come.

        @param clean: whether it ended in order.
        """
        phase, self._phase = self._phase, CLOSED
        self._context.wheel.cancel(self)
        if phase == CLOSED:
            self._forget()  # a tunnel's ends know this connection
            return
        self._owner.lost(self)
        outbound, receiver, body, tunnel = self._outbound, self._receiver, self._body, self._tunnel
        silent = not self._buffer and not self._interims
        sent = self._sent()
        self._forget()
        if phase == WAIT:
            what = "closed the connection without a response" if clean else "reset the connection"
            error = UpstreamError(
                f"the upstream {what}",
                Stage.WAIT if sent is Sent.ALL else Stage.SEND,
                sent,
            )
            if silent and self.reused and self._owner.replay(outbound, receiver, error):
                return
            self._giveUpRequestBody()
            receiver.roundTripFailed(error)
        elif body is not None and not body.ended:
            self._giveUpRequestBody()
            if clean and body.untilClose:
                body.finished()
            else:
                body.failed(
                    UpstreamError(
                        "the upstream broke off in the middle of its response",
                        Stage.TUNNEL if phase == TUNNEL else Stage.BODY,
                        Sent.ALL,
                    )
                )
        elif tunnel is not None and tunnel.onLost is not None and not clean:
            # it had closed its side in order, but now takes nothing any more either
            tunnel.onLost(UpstreamError("the upstream broke off a tunnel", Stage.TUNNEL, Sent.ALL))

    # -- our end of it

    def _fail(self, error: ProxyError) -> None:
        """
        The exchange on this connection has failed, and the connection with it.
        """
        phase, receiver, body, outbound = self._phase, self._receiver, self._body, self._outbound
        if phase == CLOSED:
            return
        if outbound is not None:
            outbound.carrier = None
        self._giveUpRequestBody()
        self._forget()
        self._discard(abort=True)
        if phase == WAIT and receiver is not None:
            receiver.roundTripFailed(error)
        elif body is not None:
            body.failed(error)

    def abort(self) -> None:
        """
        See L{ICarrier.abort<twistproxy.interfaces.ICarrier>}.
        """
        if self._phase != CLOSED:
            self._giveUpRequestBody()
            self._forget()
            self._discard(abort=True)

    def cut(self) -> None:
        """
        End it now, whatever it does; who waits for it is told.
        """
        self._fail(UpstreamError("cut off, as the proxy is going down", self.stage, self._sent()))

    def _discard(self, abort: bool = False) -> None:
        """
        Close the connection; it belongs to no pool any more.
        """
        if self._phase == CLOSED:
            return
        self._phase = CLOSED
        self._context.wheel.cancel(self)
        self._owner.lost(self)
        if abort:
            self.transport.abortConnection()
        else:
            self._context.wheel.schedule(self, self._ticks.write)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _giveUpRequestBody(self) -> None:
        """
        The upstream wants no more of the request's body: its rest is the downstream side's to drop.
        """
        body, self._requestBody = self._requestBody, None
        self._producer = None
        if body is not None:
            self._writer = None
            body.stopProducing()

    def _forget(self) -> None:
        """
        Let go of everything that belongs to one exchange.
        """
        self._outbound = self._receiver = self._response = self._tunnel = None
        self._body = self._writer = self._producer = None
        self._buffer = b""
        self._scanned = self._interims = 0
