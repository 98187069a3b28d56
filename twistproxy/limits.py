"""
The bounds on size: heads, fields, and what is held or dropped for one exchange.  All in bytes unless said
otherwise.
"""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Limits:
    """
    What one peer may make the proxy hold (B1.2, B4.4, B5.2, B6.1).

    @ivar head: of a request or response head, and of trailers.  64 KiB is more than browsers send with the
        fullest cookie jar, twice nginx's four large buffers of 8 KiB, and four times HAProxy's 16 KiB.
    @ivar requestLine: of the request line.
    @ivar requestFields: header fields in a request (a number).
    @ivar responseFields: header fields in a response (a number).
    @ivar held: that a client may send behind its request while the exchange runs.
    @ivar discarded: of a request body that nobody wants any more, read and dropped to keep the connection.
    @ivar discardSeconds: the time for that.
    @ivar collected: of a request body that is collected for a resource of C{twisted.web}, in memory up to 100,000 bytes
        and in a temporary file above; C{None} for no bound.
    @ivar interims: interim responses of one exchange (a number).
    """

    head: int = 64 * 1024
    requestLine: int = 16 * 1024
    requestFields: int = 128
    responseFields: int = 200
    held: int = 64 * 1024
    discarded: int = 256 * 1024
    discardSeconds: float = 5.0
    collected: int | None = 16 * 1024 * 1024
    interims: int = 16
