"""The TLS contexts: what they demand, and that a listener's meets a client's."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from mcpgateway.wire.tls import client_context, server_context
from tests.wire.http1 import certificates
from tests.wire.http1.certificates import issued, on_disk, trusting


def test_clients_check_certificates_and_names() -> None:
    context = client_context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_there_is_one_client_context() -> None:
    assert client_context() is client_context()


def test_a_listener_takes_no_old_tls(tmp_path: Path) -> None:
    context = server_context(*issued().write(tmp_path))

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


def test_a_listener_and_a_client_shake_hands(tmp_path: Path) -> None:
    one_way, other_way = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(*issued().write(tmp_path)).wrap_bio(one_way, other_way, server_side=True)
    client = trusting().wrap_bio(other_way, one_way, server_hostname="localhost")

    for _ in range(3):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    client.write(b"hello")

    assert server.read(10) == b"hello"
    assert client.version() in ("TLSv1.2", "TLSv1.3")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    cert, key = issued().write(tmp_path)

    with pytest.raises(FileNotFoundError):
        server_context(cert, tmp_path / "none.pem")
    with pytest.raises(FileNotFoundError):
        server_context(tmp_path / "none.pem", key)


def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    cert, key = issued().write(tmp_path)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")

    with pytest.raises(ssl.SSLError):
        server_context(junk, key)
    with pytest.raises(ssl.SSLError):
        server_context(cert, junk)


# ---- clients that say who they are, and trust others -----------------------------------------------------------------


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    one_way, other_way = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = server.wrap_bio(one_way, other_way, server_side=True)
    near = client.wrap_bio(other_way, one_way, server_hostname="localhost")
    for _ in range(3):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near, far


def test_an_authority_may_be_trusted_beside_the_systems() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client_context(), certificates.listening())

    trusting = client_context(ca=on_disk() / "ca.pem")

    shake_hands(trusting, certificates.listening())
    assert trusting.cert_store_stats()["x509_ca"] > client_context().cert_store_stats()["x509_ca"]


@pytest.mark.requirement("4.http.cold")
def test_a_client_shows_its_certificate_where_it_is_asked() -> None:
    folder = on_disk()
    identity = (folder / "client/cert.pem", folder / "client/key.pem")

    _, far = shake_hands(client_context(ca=folder / "ca.pem", identity=identity), certificates.demanding())

    peer = far.getpeercert()
    assert peer is not None
    assert peer["subject"] == ((("commonName", "client"),),)


@pytest.mark.parametrize(("http2", "protocol"), [(True, "h2"), (False, "http/1.1")])
def test_http2_is_offered_on_demand_only(http2: bool, protocol: str, tmp_path: Path) -> None:
    server = server_context(*issued().write(tmp_path))
    server.set_alpn_protocols(["h2", "http/1.1"])

    near, _ = shake_hands(client_context(ca=on_disk() / "ca.pem", http2=http2), server)

    assert near.selected_alpn_protocol() == protocol


def test_files_that_have_changed_are_read_again(tmp_path: Path) -> None:
    identity = issued(name="client").write(tmp_path)
    before = client_context(identity=identity)
    assert client_context(identity=identity) is before

    os.utime(identity[0], ns=(1, 1))

    assert client_context(identity=identity) is not before


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    cert, key = issued(name="client").write(tmp_path)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")

    with pytest.raises(OSError, match=r"none\.pem: No such file"):
        client_context(identity=(tmp_path / "none.pem", key))
    with pytest.raises(OSError, match=r"junk\.pem holds no authorities"):
        client_context(ca=junk)
    with pytest.raises(OSError, match=r"cert\.pem and .*junk\.pem are no client certificate and its key"):
        client_context(identity=(cert, junk))


@pytest.mark.parametrize("side", ["client", "server"])
def test_an_encrypted_key_is_an_error_and_no_question(side: str, tmp_path: Path) -> None:
    """OpenSSL would ask the terminal for the password."""
    cert, key = issued(name="client").write(tmp_path)
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )

    with pytest.raises(OSError):
        client_context(identity=(cert, key)) if side == "client" else server_context(cert, key)
