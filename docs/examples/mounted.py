"""
A site of files, with an application behind /api.  Uploads to it stream.
"""

from twisted.internet import reactor
from twisted.web.server import Site
from twisted.web.static import File

from twistproxy import ReverseProxyResource, StreamingRequest

root = File("public")
root.putChild(b"api", ReverseProxyResource.to("http://localhost:8081"))

reactor.listenTCP(8080, Site(root, requestFactory=StreamingRequest))
reactor.run()
