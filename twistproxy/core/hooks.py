# -*- test-case-name: tests.typing.test_typing -*-
"""
What may be given wherever users bring something of their own, as types: an object that provides the interface, or a
callable that does what its one method does.

For type checkers only; they need the plugin C{mypy_zope:plugin}, as with Twisted itself, to know what provides what.
An C{Awaitable} in here is a L{Deferred<twisted.internet.defer.Deferred>} or a coroutine; a future of C{asyncio} has to
be wrapped by L{Deferred.fromFuture<twisted.internet.defer.Deferred.fromFuture>}.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from twistproxy.core.exchange import Exchange
from twistproxy.core.request import ProxyRequest
from twistproxy.errors import ProxyError
from twistproxy.events import ExchangeRecord
from twistproxy.interfaces import (
    IBodyConsumer,
    IBodyFilter,
    ICallbackTransport,
    IDirector,
    IErrorHandler,
    IObserver,
    IResponder,
    IResponseModifier,
    ITransport,
)
from twistproxy.message import OutboundRequest, Response, UpstreamResponse

#: Decides where a request goes: C{None} to forward it, a response to answer now.
DirectorLike: TypeAlias = IDirector | Callable[[ProxyRequest], Response | Awaitable[Response | None] | None]

#: Carries a request upstream.
TransportLike: TypeAlias = ITransport | ICallbackTransport | Callable[[OutboundRequest], Awaitable[Response]]

#: Looks at what the upstream answered.
ModifierLike: TypeAlias = IResponseModifier | Callable[[UpstreamResponse], Awaitable[object] | None]

#: Decides what the client gets when an exchange has failed.
ErrorHandlerLike: TypeAlias = (
    IErrorHandler | Callable[[ProxyError, Exchange], Response | Awaitable[Response | None] | None]
)

#: Changes the body of a request.
RequestFilterLike: TypeAlias = (
    IBodyFilter
    | Callable[[IBodyConsumer, OutboundRequest], IBodyConsumer]
    | Callable[[AsyncIterator[bytes], OutboundRequest], AsyncIterator[bytes]]
)

#: Changes the body of a response.
ResponseFilterLike: TypeAlias = (
    IBodyFilter
    | Callable[[IBodyConsumer, UpstreamResponse], IBodyConsumer]
    | Callable[[AsyncIterator[bytes], UpstreamResponse], AsyncIterator[bytes]]
)

#: Serves an exchange.
ResponderLike: TypeAlias = IResponder | Callable[[Exchange], object]

#: Is told of every exchange that has ended.
ObserverLike: TypeAlias = IObserver | Callable[[ExchangeRecord], object]
