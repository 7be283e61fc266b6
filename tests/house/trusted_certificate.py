"""A certificate for 127.0.0.1 that the system seems to believe: tests can speak https."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge import certificates

_SYSTEMS_OWN = "SSL_CERT_FILE"


@contextmanager
def trusted_certificate(folder: Path) -> Iterator[ssl.SSLContext]:
    """What a server needs to speak https; believed until the end, and nothing else is."""
    path = folder / "trusted.pem"
    path.write_bytes(_made())
    before = os.environ.get(_SYSTEMS_OWN)
    os.environ[_SYSTEMS_OWN] = str(path)
    certificates._system.cache_clear()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(path)
    try:
        yield serving
    finally:
        del os.environ[_SYSTEMS_OWN]
        if before is not None:
            os.environ[_SYSTEMS_OWN] = before
        certificates._system.cache_clear()


def _made() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "house")])
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    now, day = datetime.now(UTC), timedelta(days=1)
    begun = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    signed = begun.add_extension(here, critical=False).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return signed.public_bytes(pem) + key.private_bytes(pem, form, plain)
