"""
Certificates for the tests, made by the C{openssl} command: an authority, what it signs, and an impostor.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

EXTENSIONS = """
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, DNS:app.example, IP:127.0.0.1, IP:::1
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Certificates:
    """
    PEM files in a folder; each holds the key, too.

    @ivar authority: the authority's certificate, which a client trusts.
    @ivar server: valid for localhost, app.example and the loopback addresses.
    @ivar expired: the same, but of yesterday.
    @ivar client: of a client.
    @ivar stranger: like C{server}, of an authority that nobody trusts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._extensions = folder / "extensions"
        self._extensions.write_text(EXTENSIONS)
        self.authority = self._authority("authority")
        other = self._authority("other")
        self.server = self._signed("server", "server", self.authority, "365")
        self.expired = self._signed("expired", "server", self.authority, "0")
        self.client = self._signed("client", "client", self.authority, "365")
        self.stranger = self._signed("stranger", "server", other, "365")

    def _authority(self, name: str) -> str:
        request, path = self._request(name)
        self._openssl(
            *("x509", "-req", "-in", request, "-signkey", path, "-days", "365", "-out", path + ".crt"),
            *("-extfile", str(self._extensions), "-extensions", "authority"),
        )
        return self._joined(path)

    def _signed(self, name: str, kind: str, authority: str, days: str) -> str:
        request, path = self._request(name)
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority, "-CAcreateserial"),
            *("-days", days, "-out", path + ".crt", "-extfile", str(self._extensions), "-extensions", kind),
        )
        return self._joined(path)

    def _request(self, name: str) -> tuple[str, str]:
        path = str(self._folder / name)
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        self._openssl("req", "-new", "-key", path, "-subj", f"/CN={name}", "-out", path + ".csr")
        return path + ".csr", path

    def _joined(self, path: str) -> str:
        joined = Path(path + ".pem")
        joined.write_text(Path(path).read_text() + Path(path + ".crt").read_text())
        return str(joined)

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A set of certificates for the whole run."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command, which makes certificates for these tests, is not installed")
    return Certificates(tmp_path_factory.mktemp("certificates"))
