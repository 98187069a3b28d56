from twistproxy import Response, ReverseProxy
from twistproxy.workers import run


def direct(request):
    if request.inbound.path.startswith(b"/internal/"):
        return Response(404)
    request.setTarget("http://localhost:3000")
    request.setXForwarded()


run(lambda reactor: ReverseProxy(direct, reactor=reactor))
