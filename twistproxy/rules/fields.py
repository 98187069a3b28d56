# -*- test-case-name: tests.rules.test_fields -*-
"""
The header fields that the proxy knows by name, in one table with a reason per row.

A field that is not in the table is forwarded as it came.  One that is gets a I{kind}, which the rules look
at, and is I{kept} or taken out of the lines that may be forwarded.
"""

from __future__ import annotations

HOST = 1
CONNECTION = 2
CONTENT_LENGTH = 3
TRANSFER_ENCODING = 4
UPGRADE = 5
TE = 6
HOP = 7
FORWARDING = 8
REQUEST_ID = 9
VIA = 10
CDN_LOOP = 11
EXPECT = 12
USER_AGENT = 13
REFERER = 14
DATE = 15
TRAILER = 16
EXPLAIN = 17

#: name, kind, kept, reason
_TABLE: tuple[tuple[bytes, int, bool, str], ...] = (
    (b"host", HOST, False, "written anew by the host policy; RFC 9112 3.2"),
    (b"connection", CONNECTION, False, "hop-by-hop by definition; RFC 9110 7.6.1"),
    (b"content-length", CONTENT_LENGTH, False, "framing is written from the parsed form; RFC 9112 6"),
    (b"transfer-encoding", TRANSFER_ENCODING, False, "framing is written from the parsed form; RFC 9112 6.1"),
    (b"upgrade", UPGRADE, False, "hop-by-hop; put back for an upgrade; RFC 9110 7.8"),
    (b"te", TE, False, "hop-by-hop; 'trailers' is put back; RFC 9110 10.1.4"),
    (b"proxy-connection", HOP, False, "not standard, sent to proxies by old clients; RFC 9110 7.6.1"),
    (b"keep-alive", HOP, False, "hop-by-hop; RFC 2068 19.7.1.1"),
    (b"proxy-authenticate", HOP, False, "meant for the next client only; RFC 9110 11.7.1"),
    (b"proxy-authorization", HOP, False, "meant for this proxy; RFC 9110 11.7.2"),
    (b"trailer", TRAILER, False, "describes this hop's framing; rebuilt from the trailers; RFC 9110 6.6.2"),
    (b"http2-settings", HOP, False, "belongs to 'Upgrade: h2c', which is not forwarded; RFC 7540 3.2.1"),
    (b"forwarded", FORWARDING, False, "a client can claim anything; RFC 7239 8.1"),
    (b"x-forwarded-for", FORWARDING, False, "as Forwarded"),
    (b"x-forwarded-host", FORWARDING, False, "as Forwarded"),
    (b"x-forwarded-proto", FORWARDING, False, "as Forwarded"),
    (b"x-forwarded-port", FORWARDING, False, "as Forwarded"),
    (b"x-forwarded-prefix", FORWARDING, False, "as Forwarded"),
    (b"x-real-ip", FORWARDING, False, "as Forwarded"),
    (b"x-request-id", REQUEST_ID, False, "minted here unless the peer is trusted"),
    (b"x-proxy-explain", EXPLAIN, False, "a question to this proxy, which no upstream gets to see"),
    (b"via", VIA, True, "a record of the way; looked at for loops; RFC 9110 7.6.3"),
    (b"cdn-loop", CDN_LOOP, True, "looked at for loops; RFC 8586"),
    (b"expect", EXPECT, True, "end to end, but to be ignored in HTTP/1.0; RFC 9110 10.1.1"),
    (b"user-agent", USER_AGENT, True, "for the access log"),
    (b"referer", REFERER, True, "for the access log"),
    (b"date", DATE, True, "added to a response that has none; RFC 9110 6.6.1"),
)

#: lower-case name -> (kind, kept)
KNOWN: dict[bytes, tuple[int, bool]] = {name: (kind, kept) for name, kind, kept, _ in _TABLE}
#: lower-case name -> why it is not forwarded
WHY: dict[bytes, str] = {name: reason for name, _, kept, reason in _TABLE if not kept}


def _foldings(name: bytes) -> list[bytes]:
    """
    @return: all ways to write C{name} with some of its dashes, at least one, as underscores.
    """
    first, *rest = name.split(b"-")
    spellings = [first]
    for part in rest:
        spellings = [spelling + dash + part for spelling in spellings for dash in (b"-", b"_")]
    return spellings[1:]


# CGI and WSGI servers fold '-' and '_' into one, so an upstream may read X_Forwarded_For (and
# X-Forwarded_For) as the field that was just removed.  Spelt so, these names have no honest use.
KNOWN.update(
    {
        folding: (FORWARDING, False)
        for name, kind, _, _ in _TABLE
        if kind in (FORWARDING, REQUEST_ID)
        for folding in _foldings(name)
    }
)
WHY.update({name: "as Forwarded, in disguise" for name in KNOWN if b"_" in name})
_FORWARDING_NAMES = {name for name, (kind, _) in KNOWN.items() if kind == FORWARDING}

#: What belongs to one connection and its framing, and is written anew on the next: nobody behind the wire says it.
#: Content-Length is not among them, as it also tells how long a body is that is not sent (RFC 9110 8.6).
OF_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)

#: Fields that 'Connection' may not name away: they say where a message goes and how long it is, and what a
#: trusted
#: peer says of its client.  (A client's Connection line that got through such a peer would otherwise make the
#: peer
#: itself look like the client.)
#: TE is here because whoever sends it has to name it in Connection (RFC 9110 10.1.4), and what it says is to be read
#: all the same.
UNSTRIPPABLE = frozenset((b"host", b"content-length", b"transfer-encoding", b"te", *_FORWARDING_NAMES))

#: Fields that must not stand in trailers: framing, routing, authentication, and what changes the meaning of
#: the message (RFC 9110 6.5.1).
NOT_IN_TRAILERS = frozenset(
    (
        # framing, and what belongs to the connection
        b"content-length", b"http2-settings", *OF_CONNECTION,
        # routing
        b"host", b"via", b"cdn-loop", b"x-request-id", *_FORWARDING_NAMES,
        # modifiers and conditions of the request
        b"cache-control", b"expect", b"max-forwards", b"pragma", b"range", b"if-match", b"if-none-match",
        b"if-modified-since", b"if-unmodified-since", b"if-range",
        # authentication
        b"authorization", b"proxy-authorization", b"proxy-authenticate", b"www-authenticate",
        b"authentication-info", b"proxy-authentication-info", b"cookie", b"set-cookie",
        # how to read the body
        b"content-encoding", b"content-type", b"content-range",
    )
)  # fmt: skip
