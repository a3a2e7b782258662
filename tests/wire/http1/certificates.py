"""Certificates made while the tests run: an authority of our own, and a listener's certificate from it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcpgateway.wire.tls import server_context


@attrs.frozen
class Issued:
    """PEM texts: the authority's certificate, and a certificate for loopback with its key."""

    authority: bytes
    cert: bytes
    key: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The listener's certificate and key as files, as the configuration names them."""
        cert, key = folder / "cert.pem", folder / "key.pem"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key


def issued(generation: int = 0) -> Issued:
    """A certificate for ``localhost`` and 127.0.0.1, good for a day; each generation has an authority of its own."""
    return _issue(generation)


@cache
def _issue(generation: int) -> Issued:
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    cert = (
        _builder(subject, authority_name, key.public_key())
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(authority.public_bytes(pem), cert.public_bytes(pem), secret)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


@cache
def listening() -> ssl.SSLContext:
    """The context of a listener with that certificate."""
    with TemporaryDirectory() as folder:
        return server_context(*issued().write(Path(folder)))


@cache
def trusting(generation: int = 0) -> ssl.SSLContext:
    """The context of a client that trusts the authority of the tests, and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=issued(generation).authority.decode())
    return context
