"""curl's multi interface over epoll: it sleeps until a socket, a timer or another thread has something to do."""

import os
import time
from contextlib import suppress

# Where there is no epoll and no eventfd this module cannot be imported, as where there is no pycurl.
from os import EFD_CLOEXEC, EFD_NONBLOCK, eventfd, eventfd_read, eventfd_write
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll
from typing import Any, Final

import pycurl

# Here and not at the first call: this is when curl reads the environment, and who imports us decides what it sees.
pycurl.global_init(pycurl.GLOBAL_DEFAULT)
_NEVER: Final = float("inf")
_READABLE: Final = EPOLLIN | EPOLLHUP | EPOLLERR


class CurlLoop:
    """One `CurlMulti` and its sockets. All but `wake` happens in one thread."""

    def __init__(self, *, connections_max: int) -> None:
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._want)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self.multi.setopt(pycurl.M_MAXCONNECTS, connections_max)
        self._timer_at = _NEVER
        self._epoll = epoll()
        self._watched: dict[int, int] = {}  # what each socket is watched for
        self._idle: set[int] = set()  # those of them that nobody waits for
        self._bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self._rung = False
        self._epoll.register(self._bell, EPOLLIN)

    def wake(self) -> None:
        """Let the thread look up from its sockets. Not safe from two threads at once."""
        if not self._rung:
            self._rung = True
            eventfd_write(self._bell, 1)

    def opened(self, number: int) -> None:
        """Take note that a socket has been opened: another one with its number may have been watched before."""
        self._watched.pop(number, None)
        self._idle.discard(number)

    def turn(self, *, until: float) -> None:
        """Sleep until there is something to do, at most until an instant, and do it."""
        wake_at = min(until, self._timer_at)
        timeout_s = None if wake_at == _NEVER else max(wake_at - time.monotonic(), 0.0)
        for number, events in self._epoll.poll(timeout_s):
            if number == self._bell:
                eventfd_read(number)
                self._rung = False
            elif number in self._idle:
                # The platform hung up while nothing was under way. curl finds out before it uses the connection again.
                self._idle.discard(number)
                del self._watched[number]
                with suppress(OSError):  # closed since the events were taken
                    self._epoll.unregister(number)
            else:
                readable = pycurl.CSELECT_IN if events & _READABLE else 0
                writable = pycurl.CSELECT_OUT if events & EPOLLOUT else 0
                self.multi.socket_action(number, readable | writable)
        self.kick()

    def kick(self) -> bool:
        """Do what is due by curl's own timer, such as beginning calls; whether there was anything."""
        if self._timer_at > time.monotonic():
            return False
        self._timer_at = _NEVER
        self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return True

    def close(self) -> None:
        """Close every connection."""
        self.multi.close()
        self._epoll.close()
        os.close(self._bell)

    def _set_timer(self, timeout_ms: int) -> None:
        self._timer_at = _NEVER if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def _want(self, what: int, number: int, *_: Any) -> None:
        """Watch a socket. One that is idle stays watched: it is likely to be wanted for the same again, very soon."""
        if what == pycurl.POLL_REMOVE:
            if number in self._watched:
                self._idle.add(number)
            return
        self._idle.discard(number)
        readable = EPOLLIN if what & pycurl.POLL_IN else 0
        wanted = readable | (EPOLLOUT if what & pycurl.POLL_OUT else 0)
        known = self._watched.get(number)
        if known == wanted:
            return
        self._watched[number] = wanted
        if known is None:
            self._epoll.register(number, wanted)
        else:
            self._epoll.modify(number, wanted)
