"""The certificate that every peer shows in the rows with TLS: ECDSA on P-256, which is what most sites have."""

from __future__ import annotations

import subprocess
from pathlib import Path

from processes import program


def write_certificate(directory: Path) -> Path:
    """Make one for 127.0.0.1 with its key, in one PEM file."""
    key, certificate, both = directory / "key.pem", directory / "certificate.pem", directory / "both.pem"
    argv = [
        program("openssl") or "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    argv += ["-keyout", str(key), "-out", str(certificate), "-days", "3", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(argv, check=True, capture_output=True)
    both.write_text(certificate.read_text() + key.read_text())
    both.chmod(0o600)
    return both
