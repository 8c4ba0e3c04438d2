"""A RabbitMQ node of a test's own, which it may kill: the one of the machine belongs to everybody."""

import os
import signal
import subprocess
from pathlib import Path

from kombu import Connection

from tests.command import free_port, wait_until

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_START_S = 60.0


class RabbitNode:
    """One node with a folder and a port that it keeps through its own death."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "plugins").write_text("[].\n", encoding="utf-8")
        self._folder, self.port = folder, free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._distribution_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"renewal{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbit"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }

    def start(self) -> None:
        """Start it, again on what it has written down, and wait until it lets somebody in."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [SERVER],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        wait_until(self._lets_in, what="the RabbitMQ node", seconds=_START_S)

    def _lets_in(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except Exception:  # noqa: BLE001 - a node that starts says no in many ways
            return False
        return True

    def kill(self) -> None:
        """End it by SIGKILL, without a word to its clients."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
