"""
A certificate authority of our own, and certificates without one, made with the openssl command.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.programs import program

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_SELF_SIGNED = ("req", "-x509", *_NEW_KEY, "-days", "2")


class Authority:
    """
    An authority in a folder.

    @ivar file: its certificate (PEM).
    """

    def __init__(self, folder: Path, name: str = "story authority") -> None:
        self._folder = folder
        self.file, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *(*_SELF_SIGNED, "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
            # Python 3.13 insists on what RFC 5280 4.2.1 wants an authority's certificates to have
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(self._key), "-out", str(self.file)),
        )

    def certificate(self, name: str, alternative: str) -> tuple[Path, Path]:
        """
        @param alternative: what it is good for, as openssl writes it: C{DNS:localhost,IP:127.0.0.1}.
        @return: a certificate and its key (PEM).
        """
        certificate, key, request = (self._folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        extensions = self._folder / f"{name}.ext"
        identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        extensions.write_text(f"subjectAltName={alternative}\n{identifiers}")
        _openssl(
            *("req", *_NEW_KEY, "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request)),
            *("-CA", str(self.file), "-CAkey", str(self._key), "-CAcreateserial"),
            *("-days", "2", "-extfile", str(extensions), "-out", str(certificate)),
        )
        return certificate, key


def selfSigned(folder: Path, name: str, alternative: str) -> tuple[Path, Path]:
    """
    @param name: of the files, and of who vouches for itself.
    @param alternative: as for L{Authority.certificate}.
    @return: a certificate that no authority has signed, and its key (PEM).
    """
    certificate, key = (folder / f"{name}.{end}" for end in ("pem", "key"))
    _openssl(
        *(*_SELF_SIGNED, "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    return certificate, key


def _openssl(*arguments: str) -> None:
    subprocess.run([program("openssl"), *arguments], check=True, capture_output=True, timeout=60)
