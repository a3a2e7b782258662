"""The TLS contexts: what they demand, and that a listener's meets a client's."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mcpgateway.wire.tls import client_context, server_context
from tests.wire.http1.certificates import issued, trusting


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
