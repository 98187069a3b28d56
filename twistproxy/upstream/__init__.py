"""
Upstreams, and whatever else a request can be carried to.

 - L{twistproxy.upstream.transport}, L{twistproxy.upstream.pool}, L{twistproxy.upstream.endpoint}: connections, which
   are kept, limited and waited for.
 - L{twistproxy.upstream.agent}: the same connections as an C{IAgent} of Twisted's.
   L{twistproxy.upstream.agenttransport}: any C{IAgent} as a transport.  L{twistproxy.upstream.agentbodies},
   L{twistproxy.upstream.agentuploads} and L{twistproxy.upstream.agenterrors} are for both.
 - L{twistproxy.upstream.inmemory}: servers of this process, without a socket; among them resources
   (L{twistproxy.upstream.resource}), WSGI (L{twistproxy.upstream.wsgi}) and ASGI applications
   (L{twistproxy.upstream.asgi}, L{twistproxy.upstream.asgicall}).
 - L{twistproxy.upstream.process}, with L{twistproxy.upstream.supervisor} and L{twistproxy.upstream.program}: programs
   that are started when they are wanted.
"""
