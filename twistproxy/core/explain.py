# -*- test-case-name: tests.core.test_explain -*-
"""
Why an exchange went as it did: its decisions, as data and as text.

Nothing is recorded for this: what is told here is read off the exchange and its record when somebody asks, so it costs
nothing when nobody does.  Of header fields the names are told and never the values, which may be secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twistproxy.core.interposed import beneath
from twistproxy.deadlines import NEVER, Timed
from twistproxy.errors import HookFailed, ProxyError, Refused
from twistproxy.headers import lineName, membersOf
from twistproxy.rules.fields import CONNECTION, WHY

if TYPE_CHECKING:
    from twistproxy.core.exchange import Exchange


class Explanation(dict[str, Any]):
    """
    What is known of one exchange, fit for JSON; C{str()} makes it readable.

    The keys are C{request}, C{director}, C{upstream}, C{retried} (the tries before the last one), C{sent} (the request
    line and the Host that went upstream, or C{None}), C{removed}, C{added}, C{changed}, C{seconds}, C{timers} (the
    limits of time that run, and when they are over), C{bytes} and C{outcome}.
    """

    @property
    def facts(self) -> dict[str, Any]:
        """
        The same as a plain dictionary.
        """
        return dict(self)

    @classmethod
    def of(cls, exchange: Exchange) -> Explanation:
        """
        @param exchange: an exchange, at any moment of its life.
        """
        request, record = exchange.request, exchange.record
        if exchange._tunnel is not None:
            exchange._tunnel.tally()
        went = _went(exchange)
        facts: dict[str, Any] = {
            "request": {
                "method": _text(record.method),
                "target": _text(record.target),
                "host": _text(record.host),
                "peer": record.peer,
                "client": record.client,
                "id": _text(record.requestID),
            },
            "director": _decision(exchange),
            "upstream": {"name": record.upstream, "tries": record.tries, "reused": record.reused},
            "retried": [{"upstream": name, "why": why} for name, why in record.retried],
            "sent": _sent(went, request.query) if record.upstream else None,
            **_differences(request.lines, went and went[3], _named(request.fields)),
            "seconds": {
                "direct": record.directSeconds,
                "connect": record.connectSeconds,
                "wait": record.waitSeconds,
                "body": record.bodySeconds if exchange.settled else 0.0,
                "total": (record.ended if exchange.settled else record.clock()) - record.started,
            },
            "timers": [] if exchange.settled else _timers(exchange),
            "bytes": {"request": record.requestBytes, "response": record.responseBytes},
            "outcome": {
                "settled": exchange.settled,
                "request": exchange.requestSide.value,
                "response": exchange.responseSide.value,
                "status": record.status,
                "tunnel": record.tunnelled,
                "error": _failure(record.error),
            },
        }
        return cls(facts)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """
        @return: the lines of the text.  Nothing in them can break a line or steer a terminal, whatever came in.
        """
        facts, error = self, self["outcome"]["error"]
        request, upstream, sent, outcome = (facts[name] for name in ("request", "upstream", "sent", "outcome"))
        lines = [
            f"{request['method']} {request['target']} for {request['host']} from {request['client']} [{request['id']}]",
            f"  director: {facts['director']}",
        ]
        if upstream["name"]:
            reused = ", over a kept connection" if upstream["reused"] else ""
            lines.append(f"  upstream: {upstream['name']}, tries: {upstream['tries']}{reused}")
        lines += [f"  tried before: {each['upstream']}, {each['why']}" for each in facts["retried"]]
        if sent is not None:
            lines.append(f"  sent: {sent['method']} {sent['target']} with Host {sent['host'] or 'none'}")
        lines += [f"  removed {each['name']}: {each['why']}" for each in facts["removed"]]
        lines += [f"  {word}: {', '.join(facts[word])}" for word in ("added", "changed") if facts[word]]
        times = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in facts["seconds"].items() if seconds)
        lines.append(f"  time: {times or 'none'}")
        timers = ", ".join(f"{each['limit'] or 'a timer'} in {each['seconds']:.1f} s" for each in facts["timers"])
        if timers:
            lines.append(f"  timers: {timers}")
        lines.append(f"  body bytes: {facts['bytes']['request']} from the client, {facts['bytes']['response']} to it")
        state = "settled" if outcome["settled"] else f"{outcome['request']}/{outcome['response']}"
        lines.append(f"  outcome: {state}, status {outcome['status'] or 'none yet'}")
        if error is not None:
            limit = f", limit '{error['timeout']}'" if error["timeout"] else ""
            where = f"{error['side']}/{error['stage']}, {error['sent']} sent{limit}"
            lines.append(f"  failed: {error['reason']} ({where})")
        return [_visible(line) for line in lines]


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _visible(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _went(exchange: Exchange) -> tuple[bytes, bytes, bytes, list[bytes]] | None:
    """
    @return: method, target, host and header lines of the outbound request, C{None} if there never was one.
    """
    outbound = exchange.outbound
    return None if outbound is None else (outbound.method, outbound.target, outbound.host, outbound.lines)


def _sent(went: tuple[bytes, bytes, bytes, list[bytes]] | None, asked: bytes) -> dict[str, str] | None:
    """
    @param asked: the query that the client sent; another one may hold a key of the operator's, and is not told.
    @return: what of a request stands in its first lines.
    """
    if went is None:
        return None
    method, target, host, _ = went
    path, mark, query = target.partition(b"?")
    target = path + mark + (query if query == asked else b"...")
    return {"method": _text(method), "target": _text(target), "host": _text(host)}


def _timers(exchange: Exchange) -> list[dict[str, Any]]:
    """
    @return: the limits of time that run, the next one first.
    """
    outbound = exchange.outbound
    found = {
        "exchange": exchange._limit,
        "tunnel": exchange._tunnel,
        "upstream": None if outbound is None else outbound.carrier,
        "downstream": beneath(exchange._downstream),
    }
    timers = []
    for side, timed in found.items():
        wheel = timed.wheel if isinstance(timed, Timed) else None
        if wheel is None or timed.deadline >= NEVER:
            continue
        # a connection with nothing to write is only looked at when this one is over
        if timed.limitName != "write" or getattr(getattr(timed, "transport", None), "unsentBytes", 1):
            seconds = max(0, timed.deadline - wheel.now) / wheel.ticks(1.0)
            timers.append({"limit": timed.limitName, "side": side, "seconds": seconds})
    return sorted(timers, key=lambda each: each["seconds"])


def _decision(exchange: Exchange) -> str:
    """
    @return: what the director has decided.
    """
    record, error = exchange.record, exchange.record.error
    if record.upstream:
        return f"forwarded to {record.upstream}"
    if isinstance(error, Refused):
        return f"refused with {error.status}"
    if isinstance(error, HookFailed):
        return f"failed: {error.hook}"
    if error is not None:
        return "did not decide: the exchange failed before"
    if record.status:
        return f"answered with {record.status}, nothing sent upstream"
    return "has not decided yet"


def _failure(error: ProxyError | None) -> dict[str, Any] | None:
    """
    @return: an error, as data.
    """
    if error is None:
        return None
    return {
        "reason": error.reason,
        "stage": error.stage.value,
        "side": error.side.value,
        "sent": error.sent.value,
        "timeout": error.timeout,
        "status": error.status,
    }


def _named(fields: Any) -> set[bytes]:
    """
    @return: the fields that C{Connection} names.
    """
    return {name for kind, _, _, value, _ in fields if kind == CONNECTION for name in membersOf(value)}


def _differences(came: list[bytes], went: list[bytes] | None, named: set[bytes]) -> dict[str, Any]:
    """
    @param came: the header lines of the inbound request.
    @param went: those of the outbound one, C{None} if there never was any.
    @param named: what C{Connection} named.
    @return: what was removed and why, added, and changed.
    """
    if went is None:
        return {"removed": [], "added": [], "changed": []}
    before = {name: [line for line in came if lineName(line) == name] for name in dict.fromkeys(map(lineName, came))}
    after = {name: [line for line in went if lineName(line) == name] for name in dict.fromkeys(map(lineName, went))}
    removed = [
        {"name": _text(name), "why": WHY.get(name) or ("named by Connection" if name in named else "by a hook")}
        for name in before
        if name not in after
    ]
    changed = [_text(name) for name in before if name in after and before[name] != after[name]]
    return {"removed": removed, "added": [_text(name) for name in after if name not in before], "changed": changed}
