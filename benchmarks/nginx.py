"""
nginx twice: as the origin of the downloads, and as a candidate. Both with one worker, from a configuration
written here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_FRAME = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr;
{user}
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
    default_type text/plain;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    # A connection is not closed in the middle of a measurement.
    keepalive_requests 1000000000;
    client_max_body_size 0;
    tcp_nopush on;
    tcp_nodelay on;
{http}
}}
"""

_ORIGIN = """
    access_log off;
    sendfile on;
    open_file_cache max=100;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        # for proxies with two targets
        listen 127.0.0.2:{port} backlog=1024;
        root {files};
        location = /small {{ return 200 "{small}"; }}
        # the body is read and thrown away
        location = /post {{ return 200 "$content_length\\n"; }}
    }}
"""

# Streams both ways, like all the others: with nginx's defaults bodies would be written to disk before they
# go on.
_PROXY = """
    access_log {log} combined buffer=64k flush=1s;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    upstream origin {{
        server 127.0.0.1:{originPort};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Request-ID $request_id;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
"""


def originCommand(directory: Path, port: int, files: Path, small: str) -> list[str]:
    """
    Write the configuration of the origin.

    @param directory: an existing directory for what nginx itself writes.
    @param files: the directory whose files it serves.
    @param small: the body of C{/small}.
    @return: the command that runs it.
    """
    return _command(directory, _ORIGIN.format(port=port, files=files, small=small.replace("\n", "\\n")))


def proxyCommand(directory: Path, port: int, originPort: int, log: Path) -> list[str]:
    """
    Write the configuration of the candidate.

    @param directory: an existing directory for what nginx itself writes.
    @param log: the access log.
    @return: the command that runs it.
    """
    return _command(directory, _PROXY.format(port=port, originPort=originPort, log=log))


def findNginx() -> str:
    """
    Find nginx, also where the path of ordinary users does not lead.
    """
    return shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin") or "nginx"


def _command(directory: Path, http: str) -> list[str]:
    # Started by root, the worker would change to a user who may not read our files.
    user = "user root;" if os.getuid() == 0 else ""
    configuration = directory / "nginx.conf"
    configuration.write_text(_FRAME.format(directory=directory, user=user, http=http))
    return [findNginx(), "-e", "stderr", "-p", str(directory), "-c", str(configuration)]
