# -*- test-case-name: tests.web.test_streaming_request -*-
"""
Uploads that stream through a stock C{twisted.web.server.Site}.

C{twisted.web} collects a request's body before it asks for a resource.  L{StreamingRequest}, given to a site as its
C{requestFactory}, asks as soon as the head is here, where that is safe, and hands the body on as it comes, with
backpressure; HTTP/1.1 only.

Safe means that nothing notices.  A resource says by L{IStreamingResource} that it does not need the body, and the
way to it is looked along beforehand (L{twistproxy.web.traversal}) only through steps that are known to look at the head
alone: static children, a C{NameVirtualHost}, a guard, and what says so by L{IHeadTraversal}.  At any other step the
look ends, nothing has happened, and the request takes the stock way.  Where the way goes on later, behind a guard, what
turns out to need the body waits until that is collected.

What it has to know of the channel::

    gotLength            the last moment before the body; command, path and version stand in the channel's
                         private attributes until the body has ended
    queued = 1           keeps finish() from taking the request out of its channel while its body is still coming,
                         or the channel would take the body for the next request
    the idle timer       runs while a body is read, also when it is us who do not read
    write side full      stops and starts reading as well, whoever had stopped it
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import getChildForRequest
from twisted.web.server import Request, Site
from twisted.web.util import DeferredResource

from twistproxy.errors import ClientError, MalformedMessage, Stage
from twistproxy.limits import Limits
from twistproxy.web.collecting import Collector
from twistproxy.web.downstream import closeSoon
from twistproxy.web.traversal import IHeadTraversal, IStreamingResource, leadsToHead, needsHeadOnly, takeURI
from twistproxy.wire.bodies import UNTIL_CLOSE, BodyReader
from twistproxy.wire.h1head import parseTrailers

__all__ = ["Gate", "IHeadTraversal", "IStreamingResource", "StreamingRequest"]


class Gate:
    """
    Reading, of one request's body, on a stock channel.

    The channel's idle timer runs while the client is waited for, and not while we hold it back, nor while it may be
    waiting for us because the response has begun.
    """

    def __init__(self, channel: Any) -> None:
        self._channel: Any = channel
        self._reading = True
        self._timed = True
        self._settling = False
        self.timeout: Any = channel.timeOut

    def pauseProducing(self) -> None:
        """
        Stop reading.
        """
        if self._channel is not None:
            self._reading = False
            self._channel.setTimeout(None)
            self._channel.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Read again.
        """
        if self._channel is not None:
            self._reading = True
            if self._timed:
                self._channel.setTimeout(self.timeout)
            self._channel.transport.resumeProducing()

    def stopTiming(self) -> None:
        """
        The response has begun.
        """
        self._timed = False
        if self._channel is not None:
            self._channel.setTimeout(None)

    def settle(self) -> None:
        """
        The channel is just about to start or to stop reading on its own account; see to it, before anything can be
        read, that it is as it should be.
        """
        if self._channel is not None and not self._settling:
            self._settling = True
            self._channel.callLater(0, self._settle)

    def _settle(self) -> None:
        self._settling = False
        if self._channel is not None:
            transport = self._channel.transport
            (transport.resumeProducing if self._reading else transport.pauseProducing)()

    def end(self, lost: bool = False) -> None:
        """
        The body has ended, or its connection.  The channel reads on, lest it miss that the client leaves.
        """
        channel, self._channel = self._channel, None
        if channel is not None and not self._reading and not lost:
            channel.transport.resumeProducing()


class StreamingRequest(Request):
    """
    The request class for a stock site: C{Site(root, requestFactory=StreamingRequest)}.

    @cvar limits: the bounds; C{discarded} and C{discardSeconds} say how much of a body that nobody wants is read, and
        for how long, to keep its connection.
    @ivar streamedBody: the body, an L{IBody<twistproxy.interfaces.IBody>}, or C{None} if it was collected.
    @ivar expectations: the values of C{Expect}, if the body is streamed.  They are not among C{requestHeaders} then, or
        the channel would send a 100 that is not ours to send.
    """

    limits = Limits()
    streamedBody: BodyReader | None = None
    expectations: Sequence[bytes] = ()
    _gate: Gate | None = None
    _patience: IDelayedCall | None = None
    _chunks: Any = None
    _collected: Collector | None = None

    # -- from the channel

    def gotLength(self, length: int | None) -> None:
        """
        The head is complete.

        @param length: the length of the body in bytes; C{None} if it comes in chunks.
        """
        # without a length and without chunks, the channel has refused the head already
        chunked = length is None and self.requestHeaders.hasHeader(b"transfer-encoding")
        channel: Any = self.channel
        if (length or chunked) and isinstance(channel, HTTPChannel) and self._leadsToStreaming():
            self._stream(length)
        else:
            super().gotLength(length)

    def _leadsToStreaming(self) -> bool:
        """
        @return: whether this request's resource is known, without any effect, and wants its body streamed.
        """
        channel: Any = self.channel
        site = channel.site
        if type(site).getResourceFor is not Site.getResourceFor:
            return False
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        takeURI(self)
        return self.path[:1] == b"/" and self._leadsToHead(site.resource)

    def _leadsToHead(self, resource: Any) -> bool:
        """
        @return: whether the rest of the path leads, from a resource, to one that needs no more than the head.
        """
        taken = self.prepath, self.postpath
        self.prepath, self.postpath = list(self.prepath or ()), list(self.postpath or ())
        try:
            return leadsToHead(self, resource, self.prepath, self.postpath)
        except Exception:
            # somebody's getChild: the stock way will come to it again, and knows what to do then
            return False
        finally:
            self.prepath, self.postpath = taken

    def _stream(self, length: int | None) -> None:
        """
        Ask the resource now.
        """
        self.queued = 1
        self.content = BytesIO()
        self.expectations = self.requestHeaders.getRawHeaders(b"expect") or ()
        self.requestHeaders.removeHeader(b"expect")
        channel: Any = self.channel
        self._gate = Gate(channel)
        self._chunks = channel._transferDecoder if length is None else None
        self.streamedBody = BodyReader(self._gate, UNTIL_CLOSE if length is None else length)
        self.process()

    def handleContentChunk(self, data: bytes) -> None:
        """
        A piece of the body.
        """
        body = self.streamedBody
        if body is None:
            super().handleContentChunk(data)
        elif not body.ended:
            body.received(data)
            if body.dropped > self.limits.discarded and self._gate is not None:
                self._gate.pauseProducing()
                self._giveUpBody()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """
        The body is complete.
        """
        body, gate = self.streamedBody, self._gate
        if body is None or gate is None:
            super().requestReceived(command, path, version)
            return
        # In this order: a reader that is woken may finish, and a request must be taken out of its channel once.
        finished = self.finished
        self.queued = 0
        gate.end()
        self._stopWaiting()
        try:
            # The channel's decoder keeps their lines, and shows them to nobody.
            lines = getattr(self._chunks, "_trailerHeaders", ())
            body.trailers = parseTrailers(b"\r\n".join(lines), self.limits.requestFields)
        except MalformedMessage as fault:
            body.failed(ClientError(fault.reason, fault.status, Stage.SEND))
        else:
            body.finished()
        if finished:
            self._cleanup()

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        if self._gate is not None:
            self._gate.end(lost=True)
        self._stopWaiting()
        super().connectionLost(reason)
        if self.streamedBody is not None:
            self.streamedBody.failed(ClientError("the client closed its connection inside the body", 400, Stage.SEND))

    # -- to whoever answers

    def process(self) -> None:
        """
        See C{twisted.web.server.Request.process}.  The resource of a body that was collected late is known already.
        """
        collected = self._collected
        if collected is None:
            super().process()
        else:
            collected.tell(self)

    def render(self, resrc: Any) -> None:
        """
        See C{twisted.web.server.Request.render}.  If only the head is here and that is not enough for the resource, it
        waits for the body.
        """
        if self._disconnected:
            return  # the client has left while somebody made up his mind
        if self.streamedBody is None:
            super().render(resrc)
        elif type(resrc) is DeferredResource:
            resrc.d.addCallback(self._goOn).addErrback(self._failed)
        elif needsHeadOnly(resrc):
            super().render(resrc)
        else:
            waiting = self.collectBody().addCallback(lambda _: super(StreamingRequest, self).render(resrc))
            waiting.addErrback(self._failed)

    def _goOn(self, resource: Any) -> Any:
        """
        The way goes on from a resource that was waited for.
        """
        if self._disconnected:
            return None
        if self.streamedBody is None or self._leadsToHead(resource):
            return self.render(getChildForRequest(resource, self))
        return self.collectBody().addCallback(lambda _: self.render(getChildForRequest(resource, self)))

    def _failed(self, reason: Failure) -> None:
        """
        Somebody's code has failed.
        """
        if self._disconnected:
            self._log.failure("{request}: its resource failed when its client had left", failure=reason, request=self)
        else:
            self.processingFailed(reason)

    def collectBody(self) -> Deferred[StreamingRequest]:
        """
        For a resource that is rendered with only the head here, and needs the body after all: have C{content} and, of a
        form, C{args} as they are under a stock site.

        @return: a Deferred that fires with this request when they are.  If the client leaves before it does not fire;
            C{notifyFinish} tells of that.
        """
        body = self.streamedBody
        if self._collected is not None:
            return self._collected.wait()
        if body is None:
            return succeed(self)
        super().gotLength(body.length)
        channel: Any = self.channel
        if self.expectations and self.expectations[0].lower() == b"100-continue" and not body.bufferedBytes:
            channel._send100Continue()
        self._collected = collected = Collector(self, super().requestReceived)
        waiting = collected.wait()
        body.deliver(collected)
        return waiting

    # -- from whoever answers

    def write(self, data: bytes) -> None:
        """
        See C{twisted.web.server.Request.write}.
        """
        if self._gate is not None and not self.startedWriting:
            self._gate.stopTiming()
        super().write(data)

    def finish(self) -> None:
        """
        See C{twisted.web.server.Request.finish}.  If the body has not ended, the rest of it is read and dropped.
        """
        super().finish()
        body = self.streamedBody
        if body is None or not self.queued:
            return
        channel: Any = self.channel
        if body.dropped > self.limits.discarded or (self.expectations and not channel.persistent):
            # enough was read of it, or nobody has asked for it
            self._giveUpBody()
            return
        self._patience = channel.callLater(self.limits.discardSeconds, self._giveUpBody)
        body.stopProducing()

    def settleReading(self) -> None:
        """
        To be called by a producer of this request when it is paused or resumed: the channel then does the same to
        reading.
        """
        if self._gate is not None:
            self._gate.settle()

    def _giveUpBody(self) -> None:
        """
        The connection ends behind the response, whatever becomes of the body.
        """
        self._stopWaiting()
        channel: Any = self.channel
        if not self.finished or channel is None or self._gate is None:
            return
        transport = channel.transport
        if self.expectations or ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
            closeSoon(channel)
            return
        # Closing with unread bytes resets the connection, and the reset overtakes the response (RFC 9112 9.6): only our
        # side at first, and without reading on.
        channel.persistent = False
        self._gate.pauseProducing()
        transport.unregisterProducer()
        transport.loseWriteConnection()
        self._patience = channel.callLater(self.limits.discardSeconds, transport.abortConnection)

    def _stopWaiting(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None and patience.active():
            patience.cancel()

    def _cleanup(self) -> None:
        """
        The request leaves its channel.
        """
        if self._gate is not None:
            # The channel remembers its idle time when a body ends, and was without one then.
            self.channel.setTimeout(self._gate.timeout)
        super()._cleanup()
