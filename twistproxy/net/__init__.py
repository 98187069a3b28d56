"""
The transport layer: sockets, timers and TLS, fast enough that the proxy on top of them decides the cost.

 - L{twistproxy.net.hub}: many sockets behind one descriptor of whatever reactor runs.
 - L{twistproxy.net.transport} and its sending half L{twistproxy.net.output}, L{twistproxy.net.listener},
   L{twistproxy.net.connector}, L{twistproxy.net.binding}: Twisted's transports, ports and connectors
   on a hub.
 - L{twistproxy.net.reactor}: the facade by which endpoints and any Twisted protocol use them, and the choice
   between them and stock transports.
 - L{twistproxy.net.wheel}: a timer wheel, for timeouts that move at every request.
 - L{twistproxy.net.tls} and L{twistproxy.net.tlsconnection}: TLS towards upstreams, over any transport.
"""
