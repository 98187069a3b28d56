"""
nginx as an origin.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.net.peers import until
from tests.support.programs import program

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    include /etc/nginx/mime.types;
    access_log {folder}/access.log;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
    client_max_body_size 0;
    keepalive_requests 100;
    server {{
        {listen}
        root {folder}/files;
        {server}
    }}
}}
"""


class Nginx:
    """
    An nginx of the test's own.

    @ivar number: its port.
    @ivar files: the folder that it serves.
    """

    def __init__(
        self, folder: Path, server: str = "", listen: Callable[[int], str] = "listen 127.0.0.1:{};".format
    ) -> None:
        """
        @param folder: an empty one.
        @param server: lines for its C{server} section.
        @param listen: makes the lines that say where it listens, of the number of a free port.
        """
        self._program = program("nginx")
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.number = free.getsockname()[1]
        self._configuration = folder / "nginx.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                folder=folder, listen=listen(self.number), server=server.format(folder=folder)
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Nginx:
        """
        Start it and wait until it listens.

        @return: itself.
        """
        self._process = subprocess.Popen(
            [
                self._program,
                "-p",
                str(self.folder),
                "-c",
                str(self._configuration),
                "-e",
                str(self.folder / "error.log"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await until(self._listens, "nginx to listen")
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "error.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.number)).close()
        except ConnectionError:
            return False
        return True

    def stop(self) -> None:
        """Stop it."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(20)

    @property
    def log(self) -> list[str]:
        """
        The lines of its access log.
        """
        return (self.folder / "access.log").read_text().splitlines()
