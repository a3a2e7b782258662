"""An ssh server of our own on loopback, with keys of its own, for as long as a test lasts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.processes import free_port, running, wait_for_port

PRIVILEGES: Final = Path("/run/sshd")
"""An empty directory that sshd wants when it runs as root."""


@attrs.frozen
class Sshd:
    """Where it is, and the flags of `runners.remote` that lead to it."""

    port: int
    flags: tuple[str, ...]


@contextmanager
def sshd(folder: Path, env: Mapping[str, str]) -> Iterator[Sshd]:
    """Run one, whose sessions have these variables; skips the test where there is no sshd."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    keygen = shutil.which("ssh-keygen")
    if program is None or keygen is None or shutil.which("ssh") is None:
        pytest.skip("needs an ssh client and server (openssh-client, openssh-server)")
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_port()
    config, log = folder / "sshd_config", folder / "sshd.log"
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    config.write_text(
        f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv {" ".join(f'"{name}={value}"' for name, value in env.items())}
"""
    )
    if os.geteuid() == 0:
        PRIVILEGES.mkdir(mode=0o755, exist_ok=True)  # it stays: the server of another test may be using it
    options = (
        "UserKnownHostsFile=" + str(folder / "known_hosts"),
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "LogLevel=ERROR",
    )
    flags = [part for option in options for part in ("--ssh-option", option)]
    with running([program, "-D", "-e", "-f", str(config)], log) as process:
        wait_for_port(port, process, log)
        yield Sshd(port, ("--port", str(port), "--identity", str(folder / "user"), *flags))
