"""
Two names on one port, each with an application of its own.
"""

from twisted.internet import reactor
from twisted.web.server import Site
from twisted.web.vhost import NameVirtualHost

from twistproxy import ReverseProxyResource, StreamingRequest

root = NameVirtualHost()
root.addHost(b"wiki.example", ReverseProxyResource.to("http://localhost:8081"))
root.addHost(b"shop.example", ReverseProxyResource.to("http://localhost:8082"))

reactor.listenTCP(8080, Site(root, requestFactory=StreamingRequest))
reactor.run()
