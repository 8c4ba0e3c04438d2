"""Sweeps as they are defined: one YAML file a sweep, strict like an entry of the catalogue.

The times are of the wall clock of `zone`. The night of a day begins at `at` on that day and may be begun until
`catch_up.until`, which is the next morning where it is not later than `at`.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from producers.eligibility import FREEZE_DAYS_MIN, Rule
from schemas.errors import ConfigurationError, NotFound
from schemas.ids import PlatformKey
from schemas.instrument import InstrumentKey

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,39}$"
# A night that is begun this late is still on time: beat ticks once a minute, and a scheduler may just be restarted.
PUNCTUAL: Final = timedelta(minutes=15)
_PROBLEMS_SHOWN_MAX: Final = 20
_FILE_BYTES_MAX: Final = 64 * 1024
_Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
_DAYS_AHEAD_MAX: Final = 90


def _quoted(given: Any) -> Any:
    # YAML reads 22:30 without quotes as the number 1350: it would be taken for seconds.
    if given is not None and not isinstance(given, str):
        raise ValueError('expected a time in quotes, as "22:30"')
    return given


def _wall(given: time) -> time:
    if given.tzinfo is not None:
        raise ValueError("a time on the clock of the sweep's zone, without an offset")
    return given


WallTime = Annotated[time, BeforeValidator(_quoted), AfterValidator(_wall)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Files(_Strict):
    """One file, or a folder in which a new one appears each night, its name made from the day: `pool-{day}.csv`."""

    path: _Text | None = None
    folder: _Text | None = None
    pattern: _Text | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.path is None) == (self.folder is None):
            raise ValueError("expected path, or folder and pattern")
        if (self.folder is None) != (self.pattern is None):
            raise ValueError("folder and pattern belong together")
        if self.pattern is not None:
            _named(self.pattern, date(2026, 1, 31))
        return self

    def file(self, day: date, *, beside: Path) -> Path:
        """Return the file of a night; a relative path starts at the folder of the definitions."""
        if self.path is not None:
            return beside / self.path
        return beside / str(self.folder) / _named(str(self.pattern), day)


class Query(_Strict):
    """An SQL query. The URL is a secret, so it is named and not written: `env:NAME` or `file:PATH`."""

    url: Annotated[str, StringConstraints(pattern=r"^(env:[A-Z][A-Z0-9_]*|file:[^\x00]+)$")]
    query: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class CatchUp(_Strict):
    """What becomes of a missed night. `newest`: the newest one is begun late, until `until`. `none`: it is skipped.

    Older missed nights are always skipped. Each of them leaves a record.
    """

    rule: Literal["newest", "none"]
    until: WallTime | None = None

    @model_validator(mode="after")
    def _says_until_when(self) -> Self:
        if self.rule == "newest" and self.until is None:
            raise ValueError("until: missing; until when in the day may a late night begin?")
        if self.rule == "none" and self.until is not None:
            raise ValueError("until: only with rule newest")
        return self


class Definition(_Strict):
    """One sweep."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    inventory: Files | Query
    changes: Files | None = None  # what has changed since the inventory was written, looked at before each chunk
    encoding: _Text = "utf-8"
    at: WallTime
    zone: _Text = "Asia/Shanghai"
    days_before_release: Annotated[int, Field(ge=0, le=_DAYS_AHEAD_MAX)]
    country: str = "CN"
    catch_up: CatchUp
    platforms: Annotated[tuple[PlatformKey, ...], Field(min_length=1, max_length=1000)] | None = None
    instrument: InstrumentKey | None = None  # on which its nights rest: without a valid one none begins

    @field_validator("inventory", mode="before")
    @classmethod
    def _is_one_of_two(cls, given: Any) -> Any:
        # Chosen here, so that the message is about the one that was meant, and not about both.
        if isinstance(given, dict):
            return Query.model_validate(given) if "url" in given or "query" in given else Files.model_validate(given)
        return given

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("expected a name of the time zone database, as Asia/Shanghai") from None
        return zone

    @field_validator("country")
    @classmethod
    def _has_a_minimum(cls, country: str) -> str:
        if country not in FREEZE_DAYS_MIN:
            raise ValueError(f"expected one of {', '.join(FREEZE_DAYS_MIN)}")
        return country

    @property
    def rule(self) -> Rule:
        """What it asks of a number."""
        return Rule(country=self.country, days_before_release=self.days_before_release)

    def start(self, day: date) -> datetime:
        """Return when the night of a day begins, UTC."""
        return datetime.combine(day, self.at, ZoneInfo(self.zone)).astimezone(UTC)

    def begins_until(self, day: date) -> datetime:
        """Return from when on the night of a day may not be begun any more, UTC."""
        if self.catch_up.until is None:
            return self.start(day) + PUNCTUAL
        last = day if self.catch_up.until > self.at else day + timedelta(days=1)
        return datetime.combine(last, self.catch_up.until, ZoneInfo(self.zone)).astimezone(UTC)

    def today(self, now: datetime) -> date:
        """Return the day on the wall clock of the zone."""
        return now.astimezone(ZoneInfo(self.zone)).date()

    def newest_night(self, now: datetime) -> date:
        """Return the last day whose night has begun."""
        today = self.today(now)
        return today if self.start(today) <= now else today - timedelta(days=1)


class Definitions:
    """The sweeps of one folder, by name."""

    def __init__(self, definitions: list[Definition], *, folder: Path) -> None:
        self.folder = folder
        self._by_name = {definition.name: definition for definition in definitions}

    @classmethod
    def load(cls, folder: Path) -> "Definitions":
        """Read every `*.yaml` of a folder. Raises ConfigurationError that names each wrong file and field."""
        if not folder.is_dir():
            raise ConfigurationError(f"RENEWAL_SWEEPS: {folder}: not a folder; expected one of <name>.yaml files")
        found: list[Definition] = []
        problems: list[str] = []
        for path in sorted(folder.glob("*.yaml")):
            try:
                found.append(_load(path))
            except ConfigurationError as error:
                problems.append(str(error))
        if problems:
            raise ConfigurationError("\n".join(problems[:_PROBLEMS_SHOWN_MAX]))
        return cls(found, folder=folder)

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def only(self, name: str) -> "Definitions":
        """Return one of them alone. Raises NotFound."""
        return Definitions([self.get(name)], folder=self.folder)

    def get(self, name: str) -> Definition:
        """Return one sweep. Raises NotFound."""
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name) or "none"
            raise NotFound(f"no sweep {name!r} in {self.folder}; there are: {known}") from None


def _named(pattern: str, day: date) -> str:
    try:
        return pattern.format(day=day)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError("pattern: expected a name with the day in it, as pool-{day}.csv or {day:%Y%m%d}.csv") from None


def _load(path: Path) -> Definition:
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ConfigurationError(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({type(error).__name__})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"{path}: not YAML{where}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping of fields")
    try:
        definition = Definition.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_problem(path, dict(each)) for each in error.errors())) from None
    if definition.name != path.stem:
        raise ConfigurationError(f"{path}: name: is {definition.name!r}, expected the file's name {path.stem!r}")
    return definition


def _problem(path: Path, problem: dict[str, Any]) -> str:
    """Name file and field; never the value."""
    return f"{path}: {'.'.join(map(str, problem['loc'])) or 'sweep'}: {problem['msg']}"
