"""A child process ends with its parent, however the parent ended.

The parent holds the other end of the child's standard input. When the parent dies, even by SIGKILL, the pipe closes,
and the child asks itself to stop in the ordinary way.
"""

import contextlib
import os
import signal
import threading


def end_with_parent() -> None:
    """Send this process SIGTERM as soon as its standard input closes."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
