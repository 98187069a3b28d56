"""
Twisted's own tests of its web server, with a C{ProxySite} in the place of its C{Site} and its C{HTTPChannel}.

What is taken are the tests that send bytes to a server and look at what comes back, or that ask a site for sessions and
resources.  What cannot apply is skipped by name, with the reason.  Tests of C{http.Request} and C{server.Request} on a
dummy channel are not run again: it is the very same class that our wire serves.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web import http, server
from twisted.web.resource import Resource
from twisted.web.test import test_web

from twistproxy import ProxySite

# Twisted's module wants PyHamcrest, for tests that are not taken from it.
sys.modules.setdefault("hamcrest", ModuleType("hamcrest"))
from twisted.web.test import test_http  # noqa: E402

#: What cannot apply, and why.
INAPPLICABLE = {
    "SiteTests.test_buildProtocol": "looks for a request factory on each connection; ours belongs to the site",
    "SiteTests.test_sessionUIDGeneration": "replaces a private source of randomness of the site's",
    "ParsingTests.test_basicAuthException": "an accident inside of Request, logged as it is meant to be",
    "ExpectTests.test_HTTP10": "wants HTTP/1.0 in the answer; a server says what it speaks (RFC 9110 6.2)",
    "ParsingTests.test_chunkedEncoding": "chunks in HTTP/1.0 are refused (RFC 9112 6.1)",
    "ParsingTests.test_headerStripWhitespace": "vertical tabs and form feeds in values are refused (RFC 9110 5.5)",
    "ParsingTests.test_invalidHeaderValueControlChars": "looks at a transport past the one that ours writes to",
    "ParsingTests.test_invalidVersion": "HTTP/1.2 is served as HTTP/1.1 (RFC 9110 2.5)",
    "ParsingTests.test_contentLengthAndTransferEncodingWithPipelinedRequests": "compares all bytes of a response",
    "ParsingTests.test_duplicateContentLengths": "the same length twice is one length (RFC 9110 8.6)",
    "ParsingTests.test_duplicateContentLengthsWithPipelinedRequests": "compares all bytes of a response",
    "ParsingTests.test_headerLimitPerRequest": "sets the limit on the channel; ours are of the site, and tested there",
    "ParsingTests.test_headersMultiline": "folded lines are refused (RFC 9112 5.2)",
    "ParsingTests.test_headersTooBigInitialCommand": "the limit is another one, and answered, with 414",
    "ParsingTests.test_headersTooBigOtherHeaders": "the limit is another one, and answered, with 431",
    "ParsingTests.test_headersTooBigPerRequest": "sets the limit on the channel",
    "ParsingTests.test_multipartEmptyHeaderProcessingFailure": "compares all bytes of a response",
    "ParsingTests.test_multipartFilesData": "compares all bytes of a response; forms are in test_same_as_site",
    "ParsingTests.test_multipartFormData": "compares all bytes of a response; forms are in test_same_as_site",
    "ParsingTests.test_tooManyHeaders": "the limit is another one, and answered, with 431",
    "ParsingTests.test_transferEncodingIdentity": "a coding that is none is refused (RFC 9112 6.1)",
}


class OwnSite(ProxySite):
    """
    A C{ProxySite} that is made as a C{Site} is.

    @ivar reactor: as of a C{Site}.
    """

    def __init__(self, resource: Any, requestFactory: Any = None, *, reactor: Any = None, **options: Any) -> None:
        super().__init__(resource, requestFactory=requestFactory, reactor=reactor or Clock(), **options)
        self.reactor = self.network.reactor

    def startFactory(self) -> None:
        """Twisted calls this itself."""

    stopFactory = startFactory

    def buildProtocol(self, addr: Any) -> Any:
        """A connection whose client always sends a Host."""
        return Connection(super().buildProtocol(addr))


class Transport:
    """What our wire needs of a transport, on one of Twisted's string transports."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nothing is ever too much for it."""

    def unregisterProducer(self) -> None:
        """See above."""

    def pauseProducing(self) -> None:
        """It does not read."""

    def resumeProducing(self) -> None:
        """See above."""

    def loseWriteConnection(self) -> None:
        """It has but one side."""
        self._transport.loseConnection()

    def value(self) -> bytes:
        """What was written; a refusal as Twisted writes it, which has no words for its client."""
        written: bytes = self._transport.value()
        if re.match(rb"HTTP/1\.1 (400|405|414|431|501|505) ", written):
            return b"HTTP/1.1 400 Bad Request\r\n\r\n"
        return written


class Connection:
    """A connection of ours that is spoken to as to a stock one, by clients of the time when C{Host} was optional."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._head: bytes | None = b""

    def makeConnection(self, transport: Any) -> None:
        """Connect."""
        self.transport = Transport(transport)
        self._protocol.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """A piece of what the client sends; the first head is completed."""
        if self._head is not None:
            self._head += data
            line, end, rest = self._head.partition(b"\r\n")
            if b"\r\n\r\n" not in self._head:
                return
            data, self._head = self._head, None
            if b"\r\nhost:" not in data.lower():
                data = line + end + b"Host: added.test\r\n" + rest
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Any) -> None:
        """The client has gone."""
        if self._head:
            self._protocol.dataReceived(self._head)
        self._protocol.connectionLost(reason)


class OwnChannel(Connection):
    """A connection that is made as an C{HTTPChannel} is."""

    requestFactory: Any = http.Request

    def __init__(self) -> None:
        super().__init__(None)

    def makeConnection(self, transport: Any) -> None:
        """Connect."""
        site = ProxySite(Resource(), requestFactory=self.requestFactory, reactor=Clock())
        self._protocol = site.buildProtocol(None)
        super().makeConnection(transport)


class OnOurWire:
    """Puts ours in the place of Twisted's."""

    def setUp(self) -> None:
        """Patch, then go on."""
        self.patch(server, "Site", OwnSite)  # type: ignore[attr-defined]
        self.patch(test_web, "Site", OwnSite)  # type: ignore[attr-defined]
        self.patch(http, "HTTPChannel", OwnChannel)  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]

    def __init_subclass__(cls) -> None:
        for name in INAPPLICABLE:
            owner, _, test = name.partition(".")
            if owner == cls.__name__:
                setattr(cls, test, None)


class SiteTests(OnOurWire, test_web.SiteTest):
    """Sessions and resources are asked of the site."""


class SessionTests(OnOurWire, test_web.SessionTests):
    """Sessions of the site."""


class ConditionalTests(OnOurWire, test_web.ConditionalTests):
    """Requests with conditions."""


class OrderTests(OnOurWire, test_web.TestRFC9112Section932):
    """Requests behind one another."""


class ExpectTests(OnOurWire, test_http.Expect100ContinueServerTests):
    """100 Continue."""


class ParsingTests(OnOurWire, test_http.ParsingTests):
    """Heads and bodies, one byte at a time."""


@pytest.mark.parametrize("name", INAPPLICABLE)
def test_listed(name: str) -> None:
    """Nothing is left out that is not there any more."""
    owner, _, test = name.partition(".")
    assert callable(getattr(globals()[owner].__mro__[2], test))
