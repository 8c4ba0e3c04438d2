"""Catalogues for the benchmark: platforms that allow more than the machine can do, and whose limits are enforced."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

BULK_LIMITS: Final[Mapping[str, float]] = {"calls_per_s": 100, "in_flight": 16, "items_per_call": 500, "timeout_s": 10}
SINGLE_LIMITS: Final[Mapping[str, float]] = {"calls_per_s": 5000, "in_flight": 200, "timeout_s": 10}
_RETRY: Final = {"attempts_max": 12, "delays_s": [1]}


def write_platforms(
    folder: Path, count: int, *, url: str, kind: str = "bulk", limits: Mapping[str, float] | None = None, first: int = 0
) -> Path:
    """Add `count` platforms to a catalogue; `kind` is how the platform server shall treat them: bulk, single, hang."""
    folder.mkdir(parents=True, exist_ok=True)
    single = kind == "single"
    for index in range(first, first + count):
        key = f"{kind}{index:03d}"
        entry: dict[str, Any] = {
            "key": key,
            "name": {"zh": "示例", "en": "Example"},
            "category": "social",
            "account_domain": key,
            "protocol": "json" if single else "bulk-json",
            "endpoint": f"{url}/{kind}/{key}",
            "auth": {"scheme": "none"},
            "limits": dict(limits or (SINGLE_LIMITS if single else BULK_LIMITS)),
            "retry": _RETRY,
        }
        (folder / f"{key}.yaml").write_text(yaml.safe_dump(entry, allow_unicode=True, sort_keys=False))
    return folder
