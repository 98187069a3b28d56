# -*- test-case-name: tests.net.test_tls -*-
"""
How to speak TLS with upstreams: the settings, and the way from them to a connection.

The default is what a browser would do: TLS 1.2 at least, a certificate that the system's authorities vouch
for, and the right name in it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import lru_cache

import attrs
from twisted.internet.interfaces import IProtocol

from twistproxy.net.tlsconnection import TLSConnection

__all__ = ["TLSConnection", "TLSSettings", "clientTLS"]


@attrs.frozen(kw_only=True)
class TLSSettings:
    """
    How to speak TLS with an upstream.  Hashable, so that connections can be kept apart by it.

    @ivar verify: whether the certificate must be valid and the upstream's.  Without that anybody can pose
        as the upstream.
    @ivar caFile: PEM file of the authorities to trust I{instead} of the system's.
    @ivar certificate: PEM file with our own certificate and what leads up to its authority, for upstreams
        that ask for one.
    @ivar key: PEM file of its key, if it is not in the same file.
    @ivar serverName: the name to ask for and to verify, instead of the one connected to.
    @ivar protocols: what to offer by ALPN, best first.
    """

    verify: bool = True
    caFile: str | None = None
    certificate: str | None = None
    key: str | None = None
    serverName: str | None = None
    protocols: tuple[str, ...] = ("http/1.1",)

    def context(self) -> ssl.SSLContext:
        """
        @return: the context, made at the first call; equal settings share it, and its files are not read
            again.
        @raise OSError: when a file cannot be read or used.
        """
        return _context(self)


@lru_cache(maxsize=256)
def _context(settings: TLSSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=settings.caFile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation would let a write wait for a read.  TLS 1.3 has none, and no honest server needs one.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.certificate is not None:
        context.load_cert_chain(settings.certificate, settings.key)
    if settings.protocols:
        context.set_alpn_protocols(list(settings.protocols))
    return context


def clientTLS(
    protocol: IProtocol,
    settings: TLSSettings,
    hostname: str,
    onReady: Callable[[], object],
    onFailed: Callable[[Exception], object],
) -> TLSConnection:
    """
    The protocol to connect where C{protocol} is to speak over TLS.

    @param protocol: connected, with the result as its transport, when the handshake has succeeded.
    @param settings: how.
    @param hostname: the upstream's name or IP address, to ask for and to verify.
    @param onReady: called behind that.
    @param onFailed: called instead, once, with an C{ssl.SSLError} that holds OpenSSL's reason, or with
        whatever else ended the connection.
    """
    name = settings.serverName or hostname

    def start(incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return settings.context().wrap_bio(incoming, outgoing, server_hostname=name)

    return TLSConnection(protocol, start, onReady, onFailed)
