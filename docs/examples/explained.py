"""A proxy that tells in its log why each exchange went as it did, and tells operators who ask."""

from twisted.internet import reactor

from twistproxy import Explained, ProxySite, ReverseProxy

proxy = ReverseProxy.to("http://localhost:3000")
site = ProxySite(Explained(proxy, always=True, trusted=["127.0.0.0/8", "10.9.0.0/16"]))

if __name__ == "__main__":
    site.listen("tcp:8080")
    reactor.run()
