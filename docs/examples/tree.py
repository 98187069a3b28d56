"""
A whole site: files, a form, a visitor's own counter, and an application behind /api.  One port serves it all.
"""

from html import escape

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.static import File

from twistproxy import Limits, ProxySite, ReverseProxyResource


class Greeting(Resource):
    isLeaf = True

    def render_GET(self, request):
        return b'<form method="post"><input name="name"><button>Greet</button></form>'

    def render_POST(self, request):
        name = request.args.get(b"name", [b"nobody"])[0].decode("utf-8", "replace")
        return f"Hello {escape(name)}!".encode()


class Visits(Resource):
    isLeaf = True

    def render_GET(self, request):
        session = request.getSession()
        session.visits = getattr(session, "visits", 0) + 1
        return b"You were here %d times." % session.visits


root = File("public")
root.putChild(b"greeting", Greeting())
root.putChild(b"visits", Visits())
root.putChild(b"api", ReverseProxyResource.to("http://localhost:8081"))

site = ProxySite(root, limits=Limits(collected=1024 * 1024))
site.listen("tcp:8080")
reactor.run()
