"""Failpoints: named steps at which a test lets a process die, to prove that no step may not be the last one."""

import os
import signal
import threading


class Failpoints:
    """At most one is armed, from a setting `<name>` or `<name>:<n>`: the n-th time it is reached the process ends."""

    def __init__(self) -> None:
        self._name, self._left, self._lock = "", 0, threading.Lock()

    def arm(self, setting: str) -> None:
        """Choose the step; an empty setting disarms."""
        name, _, times = setting.partition(":")
        self._name, self._left = name, int(times or 1)

    def reach(self, name: str) -> None:
        """End this process here and now, without any clean-up, if this is the step."""
        if name != self._name:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_failpoints = Failpoints()
arm, reach = _failpoints.arm, _failpoints.reach
