"""
twistproxy: a reverse-proxy framework for Twisted.

The names here are what most users need: L{ReverseProxy} and L{ProxySite} to build and serve a proxy,
L{ReverseProxyResource} and L{StreamingRequest} to mount one in a C{twisted.web} site, L{Response} and L{Refused} for
directors that answer themselves, L{Router} and L{chain} to compose, L{Explained} to see why an exchange went as it did,
L{ProxySettings}, L{Timeouts}, L{Limits}, L{PoolSettings} and L{TLSSettings} to tell it how.
"""

from twistproxy.core.explained import Explained
from twistproxy.core.request import ProxyRequest
from twistproxy.core.settings import ProxySettings
from twistproxy.deadlines import Timeouts
from twistproxy.directors import TargetDirector
from twistproxy.errors import ProxyError, Refused
from twistproxy.headers import Headers
from twistproxy.limits import Limits
from twistproxy.message import Response
from twistproxy.net.tls import TLSSettings
from twistproxy.proxy import ProxySite, ReverseProxy
from twistproxy.resources import ReverseProxyResource
from twistproxy.routes import Router, chain
from twistproxy.upstream.pool import PoolSettings
from twistproxy.upstreams import Target
from twistproxy.web.streaming import StreamingRequest

__all__ = [
    "Explained",
    "Headers",
    "Limits",
    "PoolSettings",
    "ProxyError",
    "ProxyRequest",
    "ProxySettings",
    "ProxySite",
    "Refused",
    "Response",
    "ReverseProxy",
    "ReverseProxyResource",
    "Router",
    "StreamingRequest",
    "TLSSettings",
    "Target",
    "TargetDirector",
    "Timeouts",
    "chain",
]
