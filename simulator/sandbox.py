"""A sandbox: the same catalogue, pointed at the simulator, with secrets of its own and days that pass in seconds.

Daily quotas and the hours of the bulk lane are left out: a rehearsal at night must end, and today.
"""

import os
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import yaml

from platforms.catalogue import Catalogue
from platforms.model import Bearer, Callback, NoAuth, Platform, Poll, StandardWebhooks
from schemas.errors import Refused

DELAYS_S: Final = (0.3, 0.6, 1.2, 2.4)
TOTAL_S: Final = 120.0
POLL_DELAYS_S: Final = (3.0,)
TIMEOUT_S_MAX: Final = 2.0
_MARK: Final = ".sandbox"
_SECRETS: Final = "secrets"
_SECRET_BYTES: Final = 32
_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write_sandbox(catalogue: Catalogue, folder: Path, *, base_url: str) -> Catalogue:
    """Write the derived catalogue into `folder`, and return it as it loads from there.

    Writing again keeps the secrets, so a simulator that already runs stays in agreement, and takes away entries that
    are no longer wanted. Raises Refused for a folder that holds anything but a sandbox.
    """
    folder = folder.absolute()
    _claim(folder)
    for platform in catalogue:
        entry = _pointed_at(platform, base_url=base_url.rstrip("/"), folder=folder)
        text = yaml.dump(entry.to_yaml_dict(), Dumper=_Dumper, allow_unicode=True, sort_keys=False)
        (folder / f"{platform.key}.yaml").write_text(text, encoding="utf-8")
    return Catalogue.load(folder)


def _claim(folder: Path) -> None:
    """Make the folder, or clear the sandbox that is in it; never somebody's own catalogue."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / _MARK).exists():
        raise Refused(f"{folder}: holds something else than a sandbox; name an empty or a new folder")
    folder.chmod(0o700)
    (folder / _MARK).touch(mode=0o600)
    (folder / _SECRETS).mkdir(mode=0o700, exist_ok=True)
    for stale in folder.glob("*.yaml"):
        stale.unlink()


def _pointed_at(platform: Platform, *, base_url: str, folder: Path) -> Platform:
    timeout_s = min(platform.limits.timeout_s, TIMEOUT_S_MAX)
    limits = platform.limits.model_copy(update={"timeout_s": timeout_s, "jobs_per_day": None})
    retry = platform.retry.model_copy(update={"delays_s": DELAYS_S, "total_s": min(platform.retry.total_s, TOTAL_S)})
    return platform.model_copy(
        update={
            "endpoint": f"{base_url}/{platform.key}/v1/renewals",
            "withdraw": f"{base_url}/{platform.key}/v1/withdrawals" if platform.withdraw else None,
            "auth": _auth(platform, folder=folder / _SECRETS),
            "callback": _callback(platform, folder=folder / _SECRETS),
            "poll": _poll(platform, base_url=base_url),
            "limits": limits,
            "retry": retry,
            "bulk_hours": (),
        }
    )


def _auth(platform: Platform, *, folder: Path) -> NoAuth | Bearer | StandardWebhooks:
    auth = platform.auth
    if isinstance(auth, Bearer):
        return Bearer(scheme="bearer", token=_secret(folder / platform.key, secrets.token_urlsafe(_SECRET_BYTES)))
    if isinstance(auth, StandardWebhooks):
        return StandardWebhooks(
            scheme="standard-webhooks", secret=_webhook_secrets(folder / platform.key, len(auth.secrets))
        )
    return auth


def _callback(platform: Platform, *, folder: Path) -> Callback | None:
    if platform.callback is None:
        return None
    return Callback(secret=_webhook_secrets(folder / f"{platform.key}-callback", len(platform.callback.secrets)))


def _poll(platform: Platform, *, base_url: str) -> Poll | None:
    if platform.poll is None:
        return None
    return Poll(endpoint=f"{base_url}/{platform.key}/v1/polls", delays_s=POLL_DELAYS_S)


def _webhook_secrets(path: Path, count: int) -> str | tuple[str, ...]:
    refs = tuple(
        _secret(path.with_name(f"{path.name}-{position}"), f"whsec_{b64encode(os.urandom(_SECRET_BYTES)).decode()}")
        for position in range(1, count + 1)
    )
    return refs[0] if count == 1 else refs


def _secret(path: Path, fresh: str) -> str:
    """Return the reference to a secret file, made with mode 0600 where it is not there yet."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return f"file:{path}"
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(fresh)
    return f"file:{path}"
