"""
The contracts between the parts of the proxy, and between the proxy and its users.

The first group is what users implement: a plain callable is accepted wherever an interface has one method.  The second
group is how the floors of the house speak with each other; whoever brings a wire, a server or a transport of their own
implements those.

Wherever the text says I{may wait}, the return value may be a value, a L{Deferred<twisted.internet.defer.Deferred>} or a
coroutine of it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import Attribute, Interface

# -- what users implement --------------------------------------------------------------------------------------------


class IDirector(Interface):
    """
    Decides where a request goes, and rewrites it (the contract of Go's C{Rewrite}).
    """

    def direct(request: Any) -> Any:
        """
        Called once for every exchange, before anything is sent upstream; a retry does not call it again.

        Hop-by-hop fields and the forwarding fields of an untrusted client are gone from C{request.outbound} before this
        runs, so no client can make the proxy drop what is set here.  May wait; it is cancelled when the client leaves.

        @param request: C{request.inbound} is what the client sent and must not be changed; C{request.outbound} is a
            copy to edit, and C{request.setTarget} says where it goes.
        @type request: L{ProxyRequest<twistproxy.core.request.ProxyRequest>}
        @return: C{None} to forward, or a L{Response<twistproxy.message.Response>} to answer now, with nothing sent
            upstream.
        @raise Refused: to answer with a status; L{Refused<twistproxy.errors.Refused>}.  Anything else that is raised
            goes to the error handler as a 500 and is logged with its traceback.
        """


class ITransport(Interface):
    """
    Carries one request upstream (Go's C{RoundTripper}).  Not Twisted's byte transport, which is always written
    C{twisted.internet.interfaces.ITransport} here.
    """

    def roundTrip(outbound: Any) -> Any:
        """
        Send C{outbound} and give its response.  Redirects are not followed and cookies not kept.

        @param outbound: the request; the transport owns its body from here on.  Interim responses are passed to
            C{outbound.onInformational}, if that is set, as they come.
        @type outbound: L{OutboundRequest<twistproxy.message.OutboundRequest>}
        @return: a Deferred of the L{UpstreamResponse<twistproxy.message.UpstreamResponse>}, fired at the final head.
            Cancelling it, or C{response.abort()} later, ends the upstream request at once.  It fails with
            L{ProxyError<twistproxy.errors.ProxyError>} only, which says stage, side and what was sent.
        """


class IResponseModifier(Interface):
    """
    Looks at, and may change, what the upstream answered.
    """

    def modifyResponse(response: Any) -> Any:
        """
        Called for every final response of an upstream and for 101, hop-by-hop fields removed, before anything of it is
        sent; never for a response that the proxy or a director made.  May wait.

        @param response: status, reason, headers, trailers and body may all be changed; framing is recomputed from the
            body.
        @type response: L{UpstreamResponse<twistproxy.message.UpstreamResponse>}
        @return: ignored.
        @raise Exception: anything: the upstream's body is given up and the error handler answers.
        """


class IErrorHandler(Interface):
    """
    Decides what the client gets when an exchange has failed.
    """

    def handleError(error: Any, exchange: Any) -> Any:
        """
        Called at most once for an exchange, and only while nothing of a final response was sent.  It was logged
        already.  May wait.

        @param error: what happened.
        @type error: L{ProxyError<twistproxy.errors.ProxyError>}
        @param exchange: whose exchange.
        @type exchange: L{Exchange<twistproxy.core.exchange.Exchange>}
        @return: the L{Response<twistproxy.message.Response>} for the client, or C{None} for the default one.  If this
            raises, the client gets a plain 500.
        """


class IBodyFilter(Interface):
    """
    Changes a body on its way.
    """

    def filterBody(consumer: Any, message: Any) -> Any:
        """
        Called once per message that has a body; never for HEAD, 204 and 304.

        An asynchronous generator is accepted too, as the method or as a callable.  It is called with the unfiltered
        chunks, an asynchronous iterator of C{bytes}, in the place of C{consumer}, and yields the filtered ones.  It
        runs up to its first C{async for} before the head is sent.  What it raises fails the body; if the body breaks
        off, or nobody wants it any more, it sees that as an exception where it waits.

        @param consumer: where the filtered body goes.
        @type consumer: L{IBodyConsumer}
        @param message: the L{OutboundRequest<twistproxy.message.OutboundRequest>} or
            L{UpstreamResponse<twistproxy.message.UpstreamResponse>} whose body it is; its head is still to be sent.
        @return: the L{IBodyConsumer} that takes the unfiltered body.  Framing is recomputed: the length counts as
            unknown from here on.
        """


class IResponder(Interface):
    """
    Whatever can serve an exchange.
    """

    def respond(exchange: Any) -> Any:
        """
        Take over C{exchange}: it will be answered, or aborted, exactly once.  Returns at once.

        @type exchange: L{Exchange<twistproxy.core.exchange.Exchange>}
        @return: C{None}, and the answer may come at any time; it is the limit on the whole exchange that ends one that
            never does.  Or a Deferred or a coroutine, by whose end it has answered: it is cancelled when the client
            leaves, and one that ends without an answer, or fails, gets the client a 500.
        @raise Exception: anything: the client gets a 500.
        """


class IBalancer(Interface):
    """
    Picks one member of a cluster.
    """

    counts: bool = Attribute(
        "whether it looks at how many requests each member has under way, which are only counted then; "
        "so they are for a plain callable"
    )

    def pick(candidates: Any, outbound: Any) -> Any:
        """
        Called for every try to deliver a request, where there is a choice.  Must answer at once, from what it is given:
        it is no place to look anything up.  It is not told what becomes of its choice; failures are a breaker's
        business.

        @param candidates: those that may get the request, at least two: C{target} is where each is, C{active} how many
            requests it has under way, and the lowest C{turn} is of whoever a first try went to longest ago.
        @type candidates: a sequence of L{Member<twistproxy.upstreams.Member>}
        @param outbound: the request as the director left it, to be looked at only.
        @type outbound: L{OutboundRequest<twistproxy.message.OutboundRequest>}
        @return: one of C{candidates}.
        @raise Exception: anything, or any other answer: nothing is sent, and the client gets a 500.
        """


class IRetryPolicy(Interface):
    """
    Decides whether a request that came to nothing is tried again.
    """

    statuses: Any = Attribute(
        "the statuses, a set of numbers, for which it wants to be asked instead of letting a response through; "
        "a plain callable is asked for none"
    )

    def again(attempt: Any) -> float | None:
        """
        Called when a try has failed on the upstream's side before a response, or was answered with one of C{statuses},
        and the request is still whole: all of its body is here, or none of it was asked for.  Never called when the
        client has left, or when any of a final response was passed on.  Must answer at once.

        @param attempt: which try it was, of which request, and what became of it.
        @type attempt: L{Attempt<twistproxy.policy.retry.Attempt>}
        @return: after how many seconds to try again, 0 for now; C{None} to leave it at that.  The transport may still
            say no: its budget may be used up.
        @raise Exception: anything: it is logged, and left at that.
        """


class IObserver(Interface):
    """
    Is told of every exchange that has ended: access log, counters.
    """

    def exchangeSettled(record: Any) -> None:
        """
        Called exactly once for every exchange, whatever happened to it.  Must not block.  A record does not change any
        more; an observer that keeps it for later keeps memory.

        @type record: L{ExchangeRecord<twistproxy.events.ExchangeRecord>}
        """


# -- bodies ----------------------------------------------------------------------------------------------------------


class IBodyConsumer(IConsumer, Interface):
    """
    Takes a body: C{registerProducer}, any number of C{write}, then exactly one of C{finish} and C{fail};
    or neither, once it has told its producer to stop.
    """

    def finish(trailers: list[bytes]) -> None:
        """
        The body is complete.

        @param trailers: raw trailer lines, validated, forbidden ones removed.
        """

    def fail(error: Exception) -> None:
        """
        The body broke off; what was written is not all of it.
        """


class IBody(IPushProducer, Interface):
    """
    A body that is still coming.  It has one owner and is delivered once.  C{stopProducing} gives the rest up.
    """

    length: int | None = Attribute("the number of bytes in all, or None if that is not known yet")

    def deliver(consumer: Any) -> None:
        """
        Start pushing to C{consumer}, an L{IBodyConsumer}, which may be called before this returns.
        """


# -- between the floors ----------------------------------------------------------------------------------------------


class ICarrier(Interface):
    """
    Whatever carries a request at the moment: a place in a line, an attempt to connect, a connection.
    """

    stage: Any = Attribute("the L{Stage<twistproxy.errors.Stage>} that the exchange is in while this carries it")

    def abort() -> None:
        """
        End it at once.  Whoever started it is not called back.
        """


class IRoundTripReceiver(Interface):
    """
    Is told what becomes of a request that was handed to L{ICallbackTransport.begin}.
    """

    def informationalReceived(response: Any) -> None:
        """
        An interim response has come (1xx but 101).
        """

    def responseReceived(response: Any) -> None:
        """
        The final response head, or 101, has come.
        """

    def roundTripFailed(error: Any) -> None:
        """
        There will be no response.

        @type error: L{ProxyError<twistproxy.errors.ProxyError>}
        """


class ICallbackTransport(Interface):
    """
    A transport that answers by callbacks, which spares the hot path a Deferred per request.  The native transport is
    one; every L{ITransport} is made one by an adapter.
    """

    def begin(outbound: Any, receiver: Any) -> None:
        """
        Send C{outbound}.  Exactly one of C{responseReceived} and C{roundTripFailed} follows, possibly before this
        returns, unless C{outbound.carrier.abort()} is called first.
        """


class IDownstream(Interface):
    """
    The server side of a wire, as an exchange sees it: one response to one request.
    """

    def sendInformational(status: int, reason: bytes, lines: list[bytes]) -> None:
        """
        Send an interim response, if the client can take one.
        """

    def sendHead(response: Any, length: int | None, content: bytes, end: bool) -> None:
        """
        Send the head of the final response, with the beginning of its body in the same write.

        @param response: status, reason and header lines; no framing field among them.
        @type response: L{Response<twistproxy.message.Response>}
        @param length: the length of the body in bytes, or C{None} if it is not known.
        @param content: the first bytes of the body.
        @param end: whether that was all of it, without trailers.
        """

    def write(data: bytes) -> None:
        """
        Send a piece of the body.
        """

    def finish(trailers: list[bytes]) -> None:
        """
        The body is complete.
        """

    def abort() -> None:
        """
        Cut the response off so that the client cannot take it for complete.
        """

    def setProducer(producer: Any) -> None:
        """
        From now on C{producer} (L{IPushProducer} or C{None}) is paused while the client does not keep up.
        """

    def switchProtocols(response: Any) -> Any:
        """
        Send the 101 and leave HTTP.

        @return: the L{TunnelEnd<twistproxy.message.TunnelEnd>} of the client's side, with what it sent behind its
            request.
        """

    def exchangeEnded() -> None:
        """
        The exchange has settled; the next one may begin.
        """


class IDialer(Interface):
    """
    Makes upstream connections: names, addresses, TLS.
    """

    def dial(target: Any, protocol: Any, handshaking: Any = None) -> Any:
        """
        Connect C{protocol} to C{target}.

        @type target: L{Target<twistproxy.upstreams.Target>}
        @param handshaking: called, for C{https} only, when the connection stands and the TLS handshake begins.
        @return: a Deferred that fires with C{None} when C{protocol.makeConnection} was called (TLS handshake done), or
            fails with L{UpstreamError<twistproxy.errors.UpstreamError>}.  Cancelling it gives up at once.
        """


class IHangUpListener(Interface):
    """
    A protocol that wants to know that its peer has gone although it does not read at the moment (only the hub's
    transports can tell).
    """

    def peerHungUp(reset: bool) -> None:
        """
        Called while reading is paused.

        @param reset: whether both directions are dead, or only the peer's sending side is closed.
        """


def hookOf(given: Any, interface: Any, method: str) -> Any:
    """
    @param given: an object that provides C{interface}, or a callable that does what its one method does.
    @return: that method.
    @raise TypeError: if it is neither, or does not have that method.
    """
    if interface.providedBy(given):
        hook = getattr(given, method, None)
        if not callable(hook):
            raise TypeError(f"{given!r} says that it provides {interface.__name__}, and has no {method}()")
        return hook
    if callable(given):
        return given
    raise TypeError(f"{given!r} neither provides {interface.__name__} nor is callable")
