"""A process that starts when somebody asks for it, or not at all."""

import socket
from pathlib import Path

import pytest

from backends.settings import CONSOLE_OFF, Settings
from ops.front_door import console_socket
from ops.supervisor import Supervisor
from schemas.errors import ConfigurationError


def test_a_process_starts_when_first_somebody_connects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console that nobody looks at costs nothing; who connects is not refused while it starts."""
    started: list[tuple[str, tuple[int, ...]]] = []
    monkeypatch.setattr(Supervisor, "_launch", lambda _, child: started.append((child.role, child.descriptors)))
    with socket.create_server(("127.0.0.1", 0)) as sock, Supervisor(Settings(), logs=tmp_path / "logs") as supervisor:
        supervisor.start_when_asked("console", sock)
        supervisor.check()
        assert [] == started
        with socket.create_connection(sock.getsockname()):
            supervisor.check()
            supervisor.check()
        assert [("console", (sock.fileno(),))] == started


def test_a_console_that_is_off_listens_nowhere() -> None:
    """A host that only works opens no door, and who asks for one there is told why."""
    with pytest.raises(ConfigurationError, match="RENEWAL_CONSOLE: is off"):
        console_socket(Settings(console=CONSOLE_OFF))
