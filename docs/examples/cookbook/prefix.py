"""Mount an application below a prefix: it sees /users, the public /app/users."""

from twistproxy import ProxySite, Router


def makeSite(reactor, app="http://localhost:3000", other="http://localhost:3001"):
    router = Router(reactor=reactor)
    router.add(app, path="/app", stripPrefix=True)
    router.add(other)
    return ProxySite(router, reactor=reactor)
