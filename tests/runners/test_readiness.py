"""The word that a runner is up, as systemd defined it: sent, received, and not sent where nobody wants it."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

import pytest

from runners import readiness


def test_who_waits_is_told_and_children_do_not_get_the_variable() -> None:
    with readiness.Awaited() as news:
        environment = {"NOTIFY_SOCKET": news.name, "HOME": "/"}
        ready = readiness.taken(environment)

        assert environment == {"HOME": "/"}
        assert not news.said(0.01)
        ready()
        assert news.said(1)
    assert not Path(news.name).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_the_socket_may_be_an_abstract_one() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")
        name = manager.getsockname()

        readiness.taken({"NOTIFY_SOCKET": "@" + name[1:].decode()})()

        assert manager.recv(100) == b"READY=1"


def test_other_words_do_not_say_that_it_is_up() -> None:
    with readiness.Awaited() as news, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"STATUS=READY=1 soon", news.name)

        assert not news.said(1)


def test_nobody_who_wants_to_know_is_nothing_to_do() -> None:
    readiness.taken({})()


def test_a_socket_that_has_gone_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        readiness.taken({"NOTIFY_SOCKET": str(tmp_path / "gone")})()

    assert "nobody could be told that this process is up" in caplog.text
