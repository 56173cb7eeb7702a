"""A certificate for 127.0.0.1 that no client trusts; the subscribers skip the check."""

import subprocess

from processes import Failed


def create(directory):
    """Creates a self-signed certificate with an ECDSA key (P-256); returns the paths of the certificate and the key."""
    certificate, key = directory / "server.pem", directory / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate]
    made = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=30, check=False)
    if made.returncode != 0:
        raise Failed(f"openssl req: {made.stderr}")
    return certificate, key
