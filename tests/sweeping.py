"""What tests of sweeps build on: definitions, inventories, and steppers that share nothing but the stores."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml

from backends.bootstrap import Backends
from backends.clock import ManualClock
from platforms.catalogue import Catalogue
from producers.sweep import SweepStepper
from producers.sweep_definition import Definition, Definitions
from tests.command import write_platform

DAY = date(2026, 11, 1)
START = datetime(2026, 11, 1, 14, 30, tzinfo=UTC)
HEADER = "number,state,deactivated_on,frozen_from,release_planned_on"
NAME = "nightly"


def line_of(number: str, *, release: date = DAY + timedelta(days=3), state: str = "FROZEN", freeze: int = 91) -> str:
    """Return one row of an inventory."""
    frozen = release - timedelta(days=freeze)
    return f"{number},{state},{frozen},{frozen},{release}"


def mobiles(count: int, *, first: int = 0) -> list[str]:
    """Return different numbers of eleven digits."""
    return [f"138{first + index:08d}" for index in range(count)]


class SweepFolder:
    """A folder with one sweep, its inventory, and a catalogue of two platforms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for key in ("alpha", "beta"):
            write_platform(folder / "catalogue", key)
        self.inventory, self.changes = folder / "pool.csv", folder / "changes.csv"
        self.define()

    def define(self, **fields: object) -> None:
        """Write the definition; `fields` replace its own."""
        facts: dict[str, object] = {
            "name": NAME, "inventory": {"path": "../pool.csv"}, "at": "22:30", "days_before_release": 7,
            "catch_up": {"rule": "newest", "until": "06:00"},
        }  # fmt: skip
        (self.folder / "sweeps").mkdir(exist_ok=True)
        (self.folder / "sweeps" / f"{NAME}.yaml").write_text(yaml.safe_dump(facts | fields), encoding="utf-8")

    def write(self, lines: Sequence[str]) -> None:
        """Write the inventory."""
        self.inventory.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")

    @property
    def definitions(self) -> Definitions:
        """The sweep as it is read."""
        return Definitions.load(self.folder / "sweeps")

    @property
    def definition(self) -> Definition:
        """The one that there is."""
        return self.definitions.get(NAME)

    @property
    def catalogue(self) -> Catalogue:
        """The two platforms."""
        return Catalogue.load(self.folder / "catalogue")

    def stepper(self, backends: Backends) -> SweepStepper:
        """Return somebody who steps; another one each time."""
        return SweepStepper(backends, self.catalogue, self.definitions)


def move_to(backends: Backends, now: datetime) -> None:
    """Set the clock of backends."""
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(now)


def to_rest(stepper: SweepStepper, *, most: int = 100) -> None:
    """Step until there is nothing more to be done at once."""
    for _ in range(most):
        if not stepper.step():
            return
    raise AssertionError("no end")
