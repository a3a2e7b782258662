"""Certificates made while the tests run: an authority of our own, and a listener's certificate from it."""

from __future__ import annotations

import atexit
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
        """The certificate and key as files, as the configuration names them; the authority's is beside them."""
        cert, key = folder / "cert.pem", folder / "key.pem"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        (folder / "ca.pem").write_bytes(self.authority)
        return cert, key


def issued(generation: int = 0, *, name: str = "localhost") -> Issued:
    """A certificate of that name for ``localhost`` and 127.0.0.1, good for a day.

    Each generation has an authority of its own.
    """
    return _issue(generation, name)


@cache
def _authority(generation: int) -> tuple[ec.EllipticCurvePrivateKey, x509.Name, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, name, certificate.public_bytes(serialization.Encoding.PEM)


@cache
def _issue(generation: int, name: str) -> Issued:
    authority_key, authority_name, authority = _authority(generation)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    cert = (
        _builder(subject, authority_name, key.public_key())
        .add_extension(names, critical=False)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(authority, cert.public_bytes(pem), secret)


@cache
def on_disk() -> Path:
    """A folder with ``ca.pem``, and in ``client`` the ``cert.pem`` and ``key.pem`` of a client; gone with the tests."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name)
    issued().write(path)
    (path / "client").mkdir()
    issued(name="client").write(path / "client")
    return path


def _usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    """What a key is for; since Python 3.13 certificates have to say so."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


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
def demanding() -> ssl.SSLContext:
    """The context of a listener that asks its clients for a certificate of the authority of the tests."""
    with TemporaryDirectory() as folder:
        context = server_context(*issued().write(Path(folder)))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=issued().authority.decode())
    return context


@cache
def trusting(generation: int = 0) -> ssl.SSLContext:
    """The context of a client that trusts the authority of the tests, and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=issued(generation).authority.decode())
    return context
