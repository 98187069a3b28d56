"""
A WSGI application and a resource tree of this process behind one proxy, which also has a page of its own.
"""

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.static import File

from twistproxy import ProxySite, Response, Router
from twistproxy.targets import ResourceTarget, WSGITarget


def application(environ, startResponse):
    startResponse("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {environ['HTTP_X_FORWARDED_FOR']}, from {environ['PATH_INFO']}".encode()]


tree = Resource()
tree.putChild(b"public", File("public"))

router = Router()
router.add(WSGITarget(application, threads=4))
router.add(ResourceTarget(tree), path="/public")
router.add(Response(200, {"Content-Type": "text/plain"}, "fine"), path="/health")

ProxySite(router).listen("tcp:8080")
reactor.run()
