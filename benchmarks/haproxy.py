"""
HAProxy, from a configuration written here: one thread, connections to the origin reused, access log on.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# It logs to its standard output, which goes to a file in the same memory as the others' access logs. The limits of time
# are of the same sort as twistproxy's.
_CONFIGURATION = """
global
    nbthread 1
    maxconn 8000
    log stdout format raw local0
    # By default connections to servers are closed once a quarter of all files that the process may have are open.
    tune.pool-low-fd-ratio 90
    tune.pool-high-fd-ratio 95

defaults
    mode http
    log global
    option httplog
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    timeout http-request 30s
    timeout http-keep-alive 60s
    http-reuse always

frontend proxy
    bind 127.0.0.1:{port} backlog 1024
    unique-id-format %{{+X}}o\\ %ci:%cp_%Ts_%rt:%pid
    unique-id-header X-Request-ID
    option forwardfor
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Proto http
    default_backend origin

backend origin
    server origin 127.0.0.1:{originPort} pool-max-conn 256
"""


def findHaproxy() -> str:
    """
    Find HAProxy, also where the path of ordinary users does not lead.
    """
    return shutil.which("haproxy", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin") or "haproxy"


def proxyCommand(directory: Path, port: int, originPort: int) -> list[str]:
    """
    Write the configuration.

    @param directory: an existing directory.
    @return: the command that runs it.
    """
    configuration = directory / "haproxy.cfg"
    configuration.write_text(_CONFIGURATION.format(port=port, originPort=originPort))
    return [findHaproxy(), "-db", "-f", str(configuration)]
