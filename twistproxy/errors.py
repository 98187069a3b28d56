"""
Every way in which an exchange can fail, as one type that says where, on whose side, and what had been sent.

Retry, status code, log line and metric label are all read off L{ProxyError}'s three fields, so that no place
in the proxy has to guess from the class of some exception what happened.
"""

from __future__ import annotations

import enum


class Stage(enum.Enum):
    """
    How far the exchange had come.
    """

    HEAD = "head"  #: reading or refusing the request head
    DIRECT = "direct"  #: in a hook: director, modifier, filter
    QUEUE = "queue"  #: in the line for an upstream connection
    CONNECT = "connect"  #: resolving and connecting; nothing was sent
    TLS = "tls"  #: in the handshake; nothing of the request was sent
    SEND = "send"  #: sending the request
    WAIT = "wait"  #: waiting for the response head
    BODY = "body"  #: streaming the response body
    TUNNEL = "tunnel"  #: after a 101


class Side(enum.Enum):
    """
    Whose failure it is.
    """

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    INTERNAL = "internal"


class Sent(enum.Enum):
    """
    How much of the request may have reached the upstream.
    """

    NOTHING = "nothing"
    HEAD = "head"
    SOME = "some"
    ALL = "all"


class MalformedMessage(Exception):
    """
    Bytes that are no valid HTTP message, found by a parser or a rule that does not know whose they are.

    @ivar status: the status that a server answers it with.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class ProxyError(Exception):
    """
    An exchange failed.

    @ivar reason: one line for the operator; it never reaches the client.
    @ivar stage: how far it had come.
    @ivar side: whose failure it is.
    @ivar sent: what of the request may have reached the upstream.
    @ivar status: the status that the default error handler answers with, if nothing was sent yet.
    @ivar timeout: the name of the limit that ran out (a field of L{Timeouts<twistproxy.deadlines.Timeouts>}),
        or C{None}.
    """

    status = 502
    timeout: str | None = None

    def __init__(
        self,
        reason: str,
        stage: Stage,
        side: Side,
        sent: Sent = Sent.NOTHING,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stage = stage
        self.side = side
        self.sent = sent
        if status is not None:
            self.status = status


class ClientError(ProxyError):
    """
    The client's message was refused: malformed, too large, too slow, or not allowed.
    """

    status = 400

    def __init__(
        self, reason: str, status: int = 400, stage: Stage = Stage.HEAD, timeout: str | None = None
    ) -> None:
        super().__init__(reason, stage, Side.DOWNSTREAM, Sent.NOTHING, status)
        self.timeout = timeout


class ClientLeft(ProxyError):
    """
    The client went away before its response was complete.  499 is nginx's number for it; nobody is there to
    read it.
    """

    status = 499

    def __init__(self, stage: Stage, sent: Sent = Sent.NOTHING) -> None:
        super().__init__("the client left", stage, Side.DOWNSTREAM, sent)


class CutOff(ClientLeft):
    """
    The proxy is going down and has waited long enough.  As with a client that left, nobody can be answered any more;
    but it was our doing.
    """

    status = 503

    def __init__(self, stage: Stage, sent: Sent = Sent.NOTHING) -> None:
        ProxyError.__init__(self, "cut off, as the proxy is going down", stage, Side.INTERNAL, sent)


class UpstreamError(ProxyError):
    """
    The upstream could not be reached, broke off, or sent what cannot be forwarded.
    """

    status = 502

    def __init__(self, reason: str, stage: Stage, sent: Sent = Sent.NOTHING) -> None:
        super().__init__(reason, stage, Side.UPSTREAM, sent)


class UpstreamTimeout(UpstreamError):
    """
    A limit of time ran out at the upstream.
    """

    status = 504

    def __init__(self, timeout: str, stage: Stage, sent: Sent = Sent.NOTHING) -> None:
        super().__init__(f"the upstream took longer than the limit '{timeout}'", stage, sent)
        self.timeout = timeout


class Unavailable(UpstreamError):
    """
    No upstream connection is to be had: the line is full, or closed because the proxy is draining.
    """

    status = 503

    def __init__(self, reason: str, stage: Stage = Stage.QUEUE) -> None:
        super().__init__(reason, stage)


class HookFailed(ProxyError):
    """
    A hook of the user's raised or returned nonsense; C{__cause__} is what it raised.

    @ivar hook: the hook's name and object, for the log.
    """

    status = 500

    def __init__(self, hook: str, reason: str, sent: Sent = Sent.NOTHING) -> None:
        super().__init__(f"{hook}: {reason}", Stage.DIRECT, Side.INTERNAL, sent)
        self.hook = hook


class Refused(ProxyError):
    """
    Raised by a director (or a modifier) to answer with a status of its choice; nothing is sent upstream.

    @param status: the status, 400 to 599.
    @param reason: one line for the log.
    """

    def __init__(self, status: int, reason: str = "refused by the director") -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"a refusal needs a status from 400 to 599, not {status}")
        side = Side.DOWNSTREAM if status < 500 else Side.INTERNAL
        super().__init__(reason, Stage.DIRECT, side, Sent.NOTHING, status)


class LoopDetected(ClientError):
    """
    The request has been here before, too often (B2.10).
    """

    def __init__(self, passes: int) -> None:
        super().__init__(f"the request has passed this proxy {passes} times", 508)
