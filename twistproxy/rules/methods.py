"""
What methods mean to whoever passes requests on.
"""

from __future__ import annotations

#: Those of which several do what one does (RFC 9110 9.2.2).
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
