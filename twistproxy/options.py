# -*- test-case-name: tests.test_tap -*-
"""
The command line of C{twist revproxy}: what may stand there, what it means, and what is said of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.metadata import version as versionOf
from textwrap import fill
from typing import NoReturn

from twisted.python import usage

from twistproxy.deadlines import Timeouts
from twistproxy.observe.access import FORMATS
from twistproxy.policy.balance import BALANCERS
from twistproxy.policy.retry import MOST_RETRIES
from twistproxy.rules.forwarded import networks
from twistproxy.rules.target import parseTarget
from twistproxy.rules.validity import validHost
from twistproxy.targets import isMade, targetOf

EX_USAGE = 64

#: No number on the command line is as large as this: no reactor can wait for ever, or for no number.
MOST = 1 << 53

#: How the limits of time are written on the command line.
_LIMITS = {
    "connect": "connect", "tls-handshake": "tlsHandshake", "queue": "queue", "request-head": "requestHead",
    "request-body": "requestBody", "response-head": "responseHead", "response-body": "responseBody", "write": "write",
    "keep-alive": "keepAlive", "upstream-idle": "upstreamIdle", "exchange": "exchange", "tunnel-idle": "tunnelIdle",
}  # fmt: skip

_BALANCE = (
    "Which of several targets gets a request: the next in turn (round-robin), who has the fewest under way "
    "(least-requests), or the better of two drawn by lot (random)."
)
_RETRIES = (
    "Further tries of a request that failed, at another target if there is one, and only where nothing can happen "
    "twice by that; 1 by default if there are several targets, else 0."
)
_RETRY_ON = "Also try again what was answered with one of these statuses, if its method is idempotent: 502,503,504."
_BREAKER = (
    "Leave a target alone for a while that keeps failing: on or off; on by default if there are several targets, "
    "else off."
)


def _limitsText() -> str:
    defaults = Timeouts()
    limits = ", ".join(
        f"{name} {'off' if getattr(defaults, field) is None else format(getattr(defaults, field), 'g')}"
        for name, field in _LIMITS.items()
    )
    return fill(f"Limits of time, in seconds, and their defaults: {limits}.", 90)


class Options(usage.Options):
    """
    The options of C{twist revproxy}.

    @ivar arguments: the command line, for the workers.
    """

    arguments: tuple[str, ...] = ()

    synopsis = "[options] --target URL"

    longdesc = "A reverse proxy for HTTP/1.1: streams both ways, keeps connections, and says what it did."

    #: what stands below the options; unlike L{longdesc} it keeps its lines
    epilog = f"""
Examples:

twist revproxy --target http://127.0.0.1:8000
  listen on port 8080 and forward everything to port 8000;

twist revproxy --target https://api.example.org/v2 --listen tcp:80:interface=127.0.0.1
  a verified HTTPS upstream with a base path, listening on loopback only;

twist revproxy --target unix:/run/app.sock --preserve-host --access-log /var/log/proxy.log
  an application behind a UNIX socket that wants to see the client's Host;

twist revproxy --target :8001 --target :8002 --limit response-head=10 --grace 60
  two targets in turn, ten seconds for a response head, a minute to drain;

twist revproxy --target :8001 --target :8002 --balance least-requests --retries 1 --retry-on 503
  to whoever has less to do; what one says 503 to goes to the other;

twist revproxy --target :8000 --workers auto
  a process for every CPU, all on port 8080;

twist revproxy --target 'exec:python -m http.server {{port}} --bind 127.0.0.1'
  a program that is started by the first request, on a port of its own;

twist revproxy --demo
  no server at hand? This one shows what is forwarded.

{_limitsText()}
"""

    optFlags = [
        ["demo", None, "Forward to an embedded origin that shows what was forwarded."],
        ["preserve-host", None, "Send the client's Host upstream instead of the target's."],
        ["forwarded", None, "Also set Forwarded (RFC 7239), besides X-Forwarded-For, -Host and -Proto."],
        ["insecure-upstream", None, "Do not verify the certificates of https targets."],
        ["raw-query", None, "Forward queries as they came, even those on which parsers disagree."],
        ["strict-paths", None, "Refuse encoded slashes, dot segments and NUL in paths."],
        ["no-fence", None, "Let dot segments climb out of a target's base path."],
        ["allow-trace", None, "Forward TRACE requests."],
        ["no-access-log", None, "Write no access log."],
        ["explain", None, "Log why each exchange went as it did; those of --trust may also ask for one."],
        ["stock-transports", None, "Use Twisted's own transports even where the faster ones are available."],
    ]

    optParameters = [
        ["grace", "g", 30.0, "Seconds that running exchanges may take after SIGTERM."],
        ["workers", None, "1", "Processes that share the work, or auto for one per CPU; SIGHUP replaces them."],
        ["access-log", "a", "-", "File for the access log, - for standard output; reopened on SIGUSR1."],
        ["access-format", None, "combined", "Format of the access log: combined or json."],
        ["host", None, None, "Send this Host upstream, whatever the client's and the target's are."],
        ["via", None, "twistproxy", "Name for the Via field; 'none' writes no Via."],
        ["max-body", None, None, "Largest request body in bytes; more gets 413."],
        ["max-connections", None, None, "Connections per target; more requests wait in line."],
        ["balance", None, "round-robin", _BALANCE],
        ["retries", None, None, _RETRIES],
        ["retry-on", None, None, _RETRY_ON],
        ["breaker", None, None, _BREAKER],
        ["flush-interval", None, 0.0, "Seconds for which small writes of a sized response may be held."],
        ["upstream-ca", None, None, "File of the CA certificates (PEM) that https targets are verified with."],
        ["upstream-cert", None, None, "File of the client certificate (PEM) for https targets."],
        ["upstream-key", None, None, "File of its private key (PEM)."],
        ["upstream-name", None, None, "Server name to ask for and verify, instead of the target's host."],
    ]

    compData = usage.Completions(optActions={"access-log": usage.CompleteFiles(), "upstream-ca": usage.CompleteFiles()})

    def __init__(self) -> None:
        super().__init__()
        self["targets"] = []
        self["listen"] = []
        self["trusted"] = []
        self["limits"] = {}

    def opt_target(self, value: str) -> None:
        """Where requests go: http://host:port/base, https://host, host:port, :port, unix:/path, endpoint:DESCRIPTION, \
or 'exec:PROGRAM {port}' to have it started when it is needed. Of several, one gets each request (--balance), and who \
fails is passed by (--retries, --breaker)."""
        try:
            # what has to be made needs the reactor, which is not chosen yet
            self["targets"].append(value if isMade(value) else targetOf(value))
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    opt_t = opt_target

    def opt_listen(self, value: str) -> None:
        """Endpoint to listen on, as Twisted writes them (default tcp:8080); may be given several times."""
        self["listen"].append(value)

    opt_l = opt_listen

    def opt_trust(self, value: str) -> None:
        """Address or network of a proxy in front whose X-Forwarded-For, -Host, -Proto and X-Request-ID are believed; \
may be given several times."""
        try:
            self["trusted"].extend(networks([value]))
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    def opt_limit(self, value: str) -> None:
        """A limit of time, NAME=SECONDS or NAME=off (names below); may be given several times."""
        name, _, text = value.partition("=")
        if name not in _LIMITS:
            raise usage.UsageError(f"--limit {value}: unknown limit {name!r}; the limits are {', '.join(_LIMITS)}")
        try:
            seconds = None if text == "off" else float(text)
        except ValueError:
            raise usage.UsageError(f"--limit {value}: write {name}=SECONDS or {name}=off") from None
        if seconds is not None and not 0 < seconds < MOST:
            raise usage.UsageError(f"--limit {value}: a limit is more than 0 seconds; write {name}=off to have none")
        self["limits"][_LIMITS[name]] = seconds

    def opt_version(self) -> NoReturn:
        """Display the versions of twistproxy and Twisted and exit."""
        sys.stdout.write(f"twistproxy {versionOf('twistproxy')}, Twisted {versionOf('twisted')}\n")
        raise SystemExit(0)

    def getUsage(self, width: int | None = None) -> str:
        """
        See L{usage.Options.getUsage<twisted.python.usage.Options.getUsage>}.
        """
        usageText: str = super().getUsage(width)
        return usageText + self.epilog

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line.  What is wrong with it is said in one line, not under a page of help.
        """
        self.arguments = tuple(sys.argv[1:] if options is None else options)
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            exitWith(EX_USAGE, f"{error} (twist revproxy --help shows examples)")

    def parseArgs(self, *stray: str) -> None:
        """
        Every argument belongs to an option; one that does not is most often a target.
        """
        if stray:
            raise usage.UsageError(f"the argument {stray[0]!r} has no option; is --target {stray[0]} meant?")

    def postOptions(self) -> None:
        """
        Check what belongs together.
        """
        if self["demo"] and self["targets"]:
            raise usage.UsageError("--demo and --target exclude each other; leave one out")
        if not self["demo"] and not self["targets"]:
            raise usage.UsageError("say where to: --target http://127.0.0.1:8000, or --demo to try it out")
        if self["access-format"] not in FORMATS:
            raise usage.UsageError(f"--access-format {self['access-format']}: write combined or json")
        if self["host"] is not None and not validHost(self["host"].encode("utf-8", "replace")):
            raise usage.UsageError(f"--host {self['host']!r} is no valid Host")
        if self["preserve-host"] and self["host"] is not None:
            raise usage.UsageError("--preserve-host and --host exclude each other; leave one out")
        if self["upstream-key"] and not self["upstream-cert"]:
            raise usage.UsageError("--upstream-key needs --upstream-cert")
        if self["upstream-name"] is not None:
            self["upstream-name"] = self._serverName(self["upstream-name"])
        self._number("grace", float, 0)
        self._number("flush-interval", float, 0)
        self._number("max-body", int, 0)
        self._number("max-connections", int, 1)
        self._number("retries", int, 0, f"a whole number from 0 to {MOST_RETRIES}", MOST_RETRIES)
        self._policies()
        if self["workers"] != "auto":
            self._number("workers", int, 1, "a whole number from 1 to 256, or auto", 256)
        if not self["listen"]:
            self["listen"].append("tcp:8080")

    def _policies(self) -> None:
        """
        Take what is said of retries, breaker and balancing.
        """
        if self["balance"] not in BALANCERS:
            raise usage.UsageError(f"--balance {self['balance']}: write {', '.join(BALANCERS)}")
        if self["breaker"] not in (None, "on", "off"):
            raise usage.UsageError(f"--breaker {self['breaker']}: write on or off")
        several = len(self["targets"]) > 1
        self["breaker"] = several if self["breaker"] is None else self["breaker"] == "on"
        if self["retries"] is None:
            self["retries"] = 1 if several or self["retry-on"] is not None else 0
        statuses = (self["retry-on"] or "").split(",") if self["retry-on"] is not None else []
        if any(not re.fullmatch("[45][0-9][0-9]", status.strip()) for status in statuses):
            raise usage.UsageError(f"--retry-on {self['retry-on']}: write statuses such as 502,503,504")
        if statuses and not self["retries"]:
            raise usage.UsageError("--retry-on needs --retries of 1 at least")
        self["retry-on"] = frozenset(int(status) for status in statuses)

    def _serverName(self, given: str) -> str:
        """
        @return: the name to ask a TLS server for, as it is written in a handshake.
        """
        try:
            target = parseTarget(f"https://{given}")
        except ValueError:
            target = None
        if target is None or target.authority != target.host.encode("ascii") or target.path or target.query:
            raise usage.UsageError(f"--upstream-name {given!r} is no name of a server; write api.example.org")
        return target.host

    def _number(
        self, name: str, kind: type[int] | type[float], least: int, wanted: str | None = None, most: int = MOST - 1
    ) -> None:
        """
        Take an option for a number.  Twisted's own coercion says neither which option is meant nor what to write.
        """
        given = self[name]
        if given is None:
            return
        try:
            value = kind(given)
        except ValueError:
            value = -1
        if not least <= value <= most:
            wanted = wanted or f"{'a whole number' if kind is int else 'a number'}, at least {least}"
            raise usage.UsageError(f"--{name} {given}: write {wanted}")
        self[name] = value


def exitWith(status: int, text: str) -> NoReturn:
    """
    Say one line and end.
    """
    sys.stderr.write(f"twist revproxy: {text}\n")
    raise SystemExit(status)
