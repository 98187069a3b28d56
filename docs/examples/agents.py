import treq.client
from twisted.internet import reactor

from twistproxy import ProxySite, Refused, ReverseProxy
from twistproxy.agents import ProxyAgent

agent = ProxyAgent(reactor)
client = treq.client.HTTPClient(agent)


async def direct(request):
    # ask somebody else first, over the connections that the proxy itself uses
    cookie = request.inbound.headers.get("cookie") or b""
    answer = await client.get("http://localhost:4000/session", headers={"Cookie": cookie}, timeout=2)
    await answer.content()
    if answer.code != 200:
        raise Refused(403)
    request.setTarget("http://localhost:3000")
    request.setXForwarded()


ProxySite(ReverseProxy(direct, agent)).listen("tcp:8080")
reactor.run()
