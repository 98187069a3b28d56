"""
An application for those who know the password.  Its upstream does not get to see it.
"""

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.web.guard import BasicCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.resource import IResource
from twisted.web.server import Site
from zope.interface import implementer

from twistproxy import ReverseProxyResource


def direct(request):
    request.outbound.headers.remove("Authorization")
    request.setTarget("http://localhost:8081")
    request.setXForwarded()


@implementer(IRealm)
class Realm:
    application = ReverseProxyResource(direct)

    def requestAvatar(self, avatarID, mind, *interfaces):
        return IResource, self.application, lambda: None


checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
guard = HTTPAuthSessionWrapper(Portal(Realm(), [checker]), [BasicCredentialFactory("wiki")])

reactor.listenTCP(8080, Site(guard))
reactor.run()
