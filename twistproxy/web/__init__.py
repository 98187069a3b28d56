"""
At home in C{twisted.web}, in two ways.

A proxy in somebody's site: L{twistproxy.web.resource} is for any tree.  Under a stock C{Site},
L{twistproxy.web.streaming} streams uploads to it, where L{twistproxy.web.traversal} says that the way there may be
taken so early; what turns out to need its body after all gets it by L{twistproxy.web.collecting}.
L{twistproxy.web.inbound}, L{twistproxy.web.downstream} and L{twistproxy.web.h2stream} stand between a stock request and
an exchange.

Somebody's resources under our own wire: L{twistproxy.web.tree} finds them.  L{twistproxy.web.sitechannel},
L{twistproxy.web.answer}, L{twistproxy.web.collected} and L{twistproxy.web.pulled} stand between an exchange and a true
request; by L{twistproxy.web.mounted} and L{twistproxy.web.entering} a proxy among the resources gets the exchange.
"""
