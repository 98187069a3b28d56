from twisted.internet import reactor

from twistproxy import ProxySite, Response, ReverseProxy


def direct(request):
    if request.inbound.path.startswith(b"/internal/"):
        return Response(404)  # answered here: nothing goes upstream
    isAPI = request.inbound.path.startswith(b"/api/")
    request.setTarget("http://localhost:4000" if isAPI else "http://localhost:3000")
    request.setXForwarded()


ProxySite(ReverseProxy(direct)).listen("tcp:8080")
reactor.run()
