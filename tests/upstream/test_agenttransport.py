"""
Any agent as a transport: stubs for what can go wrong.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlunparse

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.python.failure import Failure
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.error import SchemeNotSupported
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.flow import Body, Taker
from tests.upstream.test_transport import outboundTo
from twistproxy.agents import AgentTransport, EndpointTarget
from twistproxy.deadlines import Timeouts
from twistproxy.errors import ClientLeft, HookFailed, ProxyError, Sent, Stage, UpstreamError, UpstreamTimeout
from twistproxy.interfaces import IBody, IBodyConsumer, ITransport
from twistproxy.rules.target import parseTarget
from twistproxy.upstream.agentbodies import AgentBody
from twistproxy.upstream.agentuploads import Upload
from twistproxy.upstreams import Target

ONE = Target("http", "one.test", 80)


class BodyLine:
    """A body's transport, as stock responses have it: without a way to abort."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")

    def loseConnection(self) -> None:
        self.told.append("lose")


@implementer(IResponse)
class StubResponse:
    """A response that the test makes."""

    request = previousResponse = None

    def __init__(
        self, code: Any = 200, phrase: Any = b"OK", length: Any = UNKNOWN_LENGTH, headers: dict[Any, Any] | None = None
    ) -> None:
        self.version = (b"HTTP", 1, 1)
        self.code = code
        self.phrase = phrase
        self.length = length
        self.headers = Headers(headers or {})
        self.line = BodyLine()
        self.protocol: Any = None

    def deliverBody(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self.line)

    def setPreviousResponse(self, response: Any) -> None:
        """Nothing of the kind."""


@implementer(IAgent)
class StubAgent:
    """
    An agent that the test plays.

    @ivar asked: the arguments of the last request.
    @ivar answering: the Deferred it gave.
    """

    def __init__(self) -> None:
        self.asked: Any = None
        self.cancelled = False

        def cancel(_: object) -> None:
            self.cancelled = True

        self.answering: Deferred[Any] = Deferred(cancel)

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        self.asked = (method, uri, headers, bodyProducer)
        return self.answering


class Case:
    """A transport on a stub."""

    def __init__(self, **options: Any) -> None:
        self.agent = StubAgent()
        self.transport = AgentTransport(self.agent, **options)
        self.found: list[Any] = []

    def ask(self, outbound: Any = None) -> Deferred[Any]:
        """@return: what roundTrip gives."""
        asking = self.transport.roundTrip(outbound or outboundTo(ONE))
        asking.addBoth(lambda result: self.found.append(getattr(result, "value", result)))
        return asking


@pytest.fixture
def case() -> Case:
    """A transport on a stub."""
    return Case()


def test_interfaces(case: Case) -> None:
    """It is a transport, and so are its parts what they say."""
    assert verifyObject(ITransport, case.transport)
    assert verifyObject(IBody, AgentBody(StubResponse(), None))
    assert verifyObject(IBodyProducer, Upload(b""))
    assert verifyObject(IBodyConsumer, Upload(b""))


def test_noAgent() -> None:
    """What is no agent is refused when the transport is made."""
    with pytest.raises(TypeError, match="IAgent"):
        AgentTransport(object())


def test_request(case: Case) -> None:
    """Method, URI, Host, fields and body, as the director has left them."""
    outbound = outboundTo(Target("https", "one.test", 8443), b"abc")
    outbound.method, outbound.target, outbound.host = b"POST", b"/a?b", b"front.test"
    outbound.headers.add("X-A", "1")
    outbound.headers.add("X-A", "2")
    case.ask(outbound)
    method, uri, headers, upload = case.agent.asked
    assert (method, uri, upload.length) == (b"POST", b"https://one.test:8443/a?b", 3)
    assert sorted(headers.getAllRawHeaders()) == [(b"Host", [b"front.test"]), (b"X-A", [b"1", b"2"])]


def test_noBodyToSend(case: Case) -> None:
    """No producer where there is nothing to produce: a stock Agent tries such a request twice if it is safe."""
    case.ask()
    assert case.agent.asked[3] is None


def changed(name: str, value: Any) -> Any:
    """@return: a request with one thing changed."""
    outbound = outboundTo(ONE)
    setattr(outbound, name, value)
    return outbound


@pytest.mark.parametrize(
    ("outbound", "told"),
    [
        (changed("upgrade", b"websocket"), "upgrade a connection"),
        (changed("trailers", [b"X-Sum: 1"]), "send trailers"),
        (changed("timeouts", Timeouts()), "limits of time"),
        (changed("upstream", Target("http", "x", 80, socketPath="/run/x.sock")), "nothing but host and port"),
        (changed("upstream", EndpointTarget("http", "x", 80, endpoint=object())), "nothing but host and port"),
        (changed("upstream", Target("https", "x", 80, tls="settings")), "TLS settings"),
        (changed("upstream", Target("http", "fe80::1%eth0", 80)), "no zone"),
        (changed("target", b"*"), "the target b'*'"),
        (changed("target", b"/?"), "the target b'/?'"),
        (changed("target", b"/a;?x"), "the target"),
        (changed("target", b"/a#b"), "the target"),
        (changed("target", b"/\xff"), "the target"),
    ],
)
def test_cannot(case: Case, outbound: Any, told: str) -> None:
    """What an agent cannot carry is not carried at all: 501, with an error that says what, and nothing sent."""
    case.ask(outbound)
    [error] = case.found
    assert (error.status, error.sent, case.agent.asked) == (501, Sent.NOTHING, None)
    assert "StubAgent" in error.reason and told in error.reason


@pytest.mark.parametrize("target", [b"/", b"/a//b", b"/../b", b"/%7e", b"/a;b", b"/?a=b&c"])
def test_keptTargets(case: Case, target: bytes) -> None:
    """B2.6: targets that a stock Agent leaves alone go through."""
    case.ask(changed("target", target))
    assert case.agent.asked[1] == b"http://one.test" + target


def test_slashesInFront(case: Case) -> None:
    """
    B2.6: of two slashes in front a stock Agent makes four where C{urllib.parse.urlunparse} does, as it has done since
    Python 3.13.  Then they are not carried.
    """
    case.ask(changed("target", b"//a"))
    if urlunparse((b"", b"", b"//a", b"", b"", b"")) == b"//a":
        assert case.agent.asked[1] == b"http://one.test//a"
    else:
        [error] = case.found
        assert (error.status, case.agent.asked) == (501, None)


def test_exactTargets() -> None:
    """B2.6: an agent that is known to change nothing is given every target that is in a URI."""
    case = Case(exactTargets=True)
    case.ask(changed("target", b"/?"))
    assert case.agent.asked[1] == b"http://one.test/?"


def test_noTarget(case: Case) -> None:
    """A request that names no upstream is a bug of who made it."""
    case.ask(changed("upstream", None))
    assert [(type(error), error.status) for error in case.found] == [(HookFailed, 500)]


def test_response(case: Case) -> None:
    """B2.2: a response's head, framing and hop-by-hop fields taken out, even those that only Connection names."""
    case.ask()
    fields = {b"Connection": [b"X-Hop"], b"X-Hop": [b"1"], b"Keep-Alive": [b"1"], b"Content-Length": [b"3"]}
    fields |= {b"Trailer": [b"X-Sum"], b"X-A": [b"1", b"2"], b"Date": [b"now"]}
    case.agent.answering.callback(StubResponse(404, b"Gone Fishing", 3, fields))
    [response] = case.found
    assert (response.status, response.reason, response.length) == (404, b"Gone Fishing", 3)
    assert (response.lines, response.dated) == ([b"X-A: 1", b"X-A: 2", b"Date: now"], True)


@pytest.mark.parametrize("code", [99, 101, 600, 20000, "200"])
def test_statusOutOfRange(case: Case, code: Any) -> None:
    """B5.2: a status that no client could be sent is a malformed response, and its connection is given up."""
    case.ask()
    response = StubResponse(code)
    case.agent.answering.callback(response)
    assert [(type(error), error.stage) for error in case.found] == [(UpstreamError, Stage.WAIT)]
    assert response.line.told == ["lose"]


@pytest.mark.parametrize("fields", [{b"X-A": [b"a\x00b"]}, {b"Content-Length": [b"+3"]}])
def test_malformedFields(case: Case, fields: dict[bytes, list[bytes]]) -> None:
    """B5.2: what a lenient agent lets through is not forwarded."""
    case.ask()
    case.agent.answering.callback(StubResponse(headers=fields))
    assert [(type(error), error.status) for error in case.found] == [(UpstreamError, 502)]


def test_brokenPhrase(case: Case) -> None:
    """A phrase that would break the head is replaced by the usual one."""
    case.ask()
    case.agent.answering.callback(StubResponse(404, b"No\r\nX: y"))
    assert case.found[0].reason == b"Not Found"


@pytest.mark.parametrize(("method", "code"), [(b"HEAD", 200), (b"GET", 304), (b"GET", 204)])
def test_noBody(case: Case, method: bytes, code: int) -> None:
    """B5.3: responses without a body: what they say of its length is kept, and their connection set free."""
    case.ask(changed("method", method))
    response = StubResponse(code, b"", 0, {b"Content-Length": [b"5"]})
    case.agent.answering.callback(response)
    assert (case.found[0].body, case.found[0].contentLength) == (b"", None if code == 204 else 5)
    assert response.protocol is not None


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        (ResponseDone(), ("finish", [])),
        (PotentialDataLoss(), ("finish", [])),
        (ResponseFailed([Failure(ConnectionLost("gone"))]), UpstreamError),
        (ConnectionLost("gone"), UpstreamError),
    ],
)
def test_body(case: Case, reason: Exception, ending: Any) -> None:
    """B5.4, B5.5: a body as it comes, and its end: complete, or broken off."""
    case.ask()
    response = StubResponse()
    case.agent.answering.callback(response)
    taker = Taker()
    case.found[0].body.deliver(taker)
    response.protocol.dataReceived(b"ab")
    response.protocol.connectionLost(Failure(reason))
    assert taker.told[0] == b"ab"
    assert taker.told[1] == ending or (type(taker.told[1]), taker.told[1].stage) == (ending, Stage.BODY)
    with pytest.raises(RuntimeError):
        case.found[0].body.deliver(taker)


def test_pausesAgain(case: Case) -> None:
    """B5.4: a stock body resumes its connection when it begins: it is paused again with every piece that still comes."""
    case.ask()
    response = StubResponse()
    case.agent.answering.callback(response)
    body = case.found[0].body
    body.deliver(Taker())
    body.pauseProducing()
    response.protocol.dataReceived(b"ab")
    assert response.line.told == ["pause", "pause"]
    body.resumeProducing()
    response.protocol.dataReceived(b"cd")
    assert response.line.told == ["pause", "pause", "resume"]


@pytest.mark.parametrize("delivered", [False, True])
def test_abort(case: Case, delivered: bool) -> None:
    """B7.1: giving a response up closes its connection, whether its body was begun or not; what comes is dropped."""
    case.ask()
    response = StubResponse()
    case.agent.answering.callback(response)
    taker = Taker()
    if delivered:
        case.found[0].body.deliver(taker)
    case.found[0].abort()
    case.found[0].abort()
    response.protocol.dataReceived(b"late")
    response.protocol.connectionLost(Failure(ConnectionLost()))
    assert (response.line.told, taker.told) == (["lose"], [])


def test_cancel(case: Case) -> None:
    """B7.1: cancelling goes through to the agent."""
    case.ask().cancel()
    assert (case.agent.cancelled, [type(error) for error in case.found]) == (True, [CancelledError])


def test_cancelledInsideReasons(case: Case) -> None:
    """B7.1: a stock Agent that was cancelled wraps that up; it is the same."""
    case.ask()
    case.agent.answering.errback(ResponseNeverReceived([Failure(CancelledError())]))
    assert [type(error) for error in case.found] == [CancelledError]


@pytest.mark.parametrize(
    ("error", "kind", "stage", "sent", "status"),
    [
        (ConnectionRefusedError(), UpstreamError, Stage.CONNECT, Sent.NOTHING, 502),
        (ConnectError(), UpstreamError, Stage.CONNECT, Sent.NOTHING, 502),
        (DNSLookupError("x"), UpstreamError, Stage.CONNECT, Sent.NOTHING, 502),
        (ConnectTimeoutError(), UpstreamTimeout, Stage.CONNECT, Sent.NOTHING, 504),
        (RequestTransmissionFailed([Failure(ConnectionLost())]), UpstreamError, Stage.SEND, Sent.SOME, 502),
        (RequestGenerationFailed([Failure(ValueError())]), HookFailed, Stage.DIRECT, Sent.SOME, 500),
        (ResponseNeverReceived([Failure(ConnectionLost())]), UpstreamError, Stage.WAIT, Sent.ALL, 502),
        (ResponseFailed([Failure(ConnectionLost())]), UpstreamError, Stage.WAIT, Sent.ALL, 502),
        (SchemeNotSupported("x"), HookFailed, Stage.DIRECT, Sent.SOME, 500),
        (ZeroDivisionError(), HookFailed, Stage.DIRECT, Sent.SOME, 500),
    ],
)
def test_errors(case: Case, error: Exception, kind: type, stage: Stage, sent: Sent, status: int) -> None:
    """B7: an agent's errors, as stage, side and what was sent; the original is the cause."""
    case.ask()
    case.agent.answering.errback(error)
    [found] = case.found
    assert (type(found), found.stage, found.sent, found.status) == (kind, stage, sent, status)
    assert found.__cause__ is error


def test_ourOwnErrors(case: Case) -> None:
    """B7: an error that was a ProxyError before an agent wrapped it up is that again."""
    case.ask()
    error = UpstreamTimeout("responseHead", Stage.WAIT, Sent.ALL)
    case.agent.answering.errback(ResponseNeverReceived([Failure(error)]))
    assert case.found == [error]


def test_agentRaises() -> None:
    """B7.4: so is an agent that raises instead of failing."""

    @implementer(IAgent)
    class Broken:
        """An agent."""

        def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
            raise ValueError("no")

    found: list[Any] = []
    AgentTransport(Broken()).roundTrip(outboundTo(ONE)).addErrback(lambda failure: found.append(failure.value))
    assert [type(error) for error in found] == [HookFailed] and "Broken" in str(found[0])


class Sink:
    """Takes what an agent sends."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def test_upload(case: Case) -> None:
    """B4.1: a body goes to the agent piece by piece, paused and resumed as it wishes."""
    body = Body(4)
    case.ask(outboundTo(ONE, body))
    upload, sink = case.agent.asked[3], Sink()
    done: list[Any] = []
    upload.startProducing(sink).addCallback(done.append)
    body.consumer.write(b"ab")
    upload.pauseProducing()
    upload.resumeProducing()
    body.consumer.write(b"cd")
    assert (upload.length, sink.data, body.told, done) == (4, b"abcd", ["pause", "resume"], [])
    body.consumer.unregisterProducer()
    body.consumer.finish([])
    assert done == [None]


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
def test_uploadStopped(case: Case, how: str) -> None:
    """B4.4: once the agent wants no more, not a byte is written, and the client's side is told."""
    body = Body()
    case.ask(outboundTo(ONE, body))
    upload, sink = case.agent.asked[3], Sink()
    done = upload.startProducing(sink).addErrback(lambda _: None)
    upload.stopProducing() if how == "stopped" else done.cancel()
    body.consumer.write(b"late")
    body.consumer.finish([])
    assert (upload.length, sink.data, body.told) == (UNKNOWN_LENGTH, b"", ["stop"])


def test_uploadBreaks(case: Case) -> None:
    """B4.5: a client that leaves in the middle fails the agent's request, and is what the exchange ends with."""
    body = Body()
    case.ask(outboundTo(ONE, body))
    failures: list[Any] = []
    case.agent.asked[3].startProducing(Sink()).addErrback(failures.append)
    error = ClientLeft(Stage.SEND)
    body.consumer.fail(error)
    case.agent.answering.errback(RequestGenerationFailed(failures))
    assert case.found == [error]


def test_trailersTooLate(case: Case) -> None:
    """Trailers that only come with the end of a body break the request off, as an agent cannot send them: 501."""
    body = Body()
    case.ask(outboundTo(ONE, body))
    failures: list[Any] = []
    case.agent.asked[3].startProducing(Sink()).addErrback(failures.append)
    body.consumer.finish([b"X-Sum: 1"])
    case.agent.answering.errback(RequestGenerationFailed(failures))
    assert [(error.status, error.sent) for error in case.found] == [(501, Sent.SOME)]


def test_parsed() -> None:
    """Targets as operators write them go to an agent as URIs."""
    case = Case()
    case.ask(changed("upstream", parseTarget("[::1]:8081")))
    assert case.agent.asked[1] == b"http://[::1]:8081/"


def test_failsWithProxyErrorsOnly(case: Case) -> None:
    """Whatever an agent fails with, a transport fails with a ProxyError."""
    case.ask()
    case.agent.answering.errback(KeyError("x"))
    assert isinstance(case.found[0], ProxyError)


def test_succeedsAtOnce() -> None:
    """An agent may have its response at once."""
    case = Case()
    case.agent.answering = succeed(StubResponse(204, b"", 0))
    case.ask()
    assert case.found[0].status == 204
