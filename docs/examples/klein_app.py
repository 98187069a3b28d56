"""
A Klein application, with another application behind /api/.  Uploads to that one stream.
"""

from klein import Klein
from twisted.internet import reactor
from twisted.web.server import Site
from zope.interface import alsoProvides

from twistproxy import ReverseProxyResource, StreamingRequest
from twistproxy.web.streaming import IStreamingResource

app = Klein()
behind = ReverseProxyResource.to("http://localhost:8081")


@app.route("/")
def home(request):
    return "at home"


@app.route("/api/", branch=True)
def api(request):
    return behind


@app.route("/name", methods=["POST"])
async def name(request):
    await request.collectBody()  # routes are called before the body has come
    return b"hello " + request.args[b"name"][0]


resource = app.resource()
alsoProvides(resource, IStreamingResource)

reactor.listenTCP(8080, Site(resource, requestFactory=StreamingRequest))
reactor.run()
