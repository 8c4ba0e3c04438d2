"""An inventory by SQL query: streamed, asked again before each chunk, and silent about numbers when it fails."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from backends.bootstrap import Backends
from backends.sweeps import Ending
from producers import sweep
from producers.eligibility import InventoryRow
from producers.rows import Rejection
from producers.sweep_source import source_of
from schemas.errors import ConfigurationError, InputError
from tests.sweeping import DAY, NAME, START, SweepFolder, mobiles, move_to, to_rest

CHUNK = 4
QUERY = "SELECT number, state, deactivated_on, frozen_from, release_planned_on FROM pool WHERE state <> 'SOLD';"


class Pool:
    """A database with one table."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._engine = create_engine(self.url)
        columns = "number TEXT, state TEXT, deactivated_on DATE, frozen_from DATE, release_planned_on DATE"
        self.run(f"CREATE TABLE pool ({columns})")

    def run(self, statement: str, **values: object) -> None:
        """Run one statement."""
        with self._engine.begin() as connection:
            connection.execute(text(statement), values)

    def add(self, number: str, *, state: str = "FROZEN", release: date = DAY + timedelta(days=3)) -> None:
        """Add one number."""
        frozen = release - timedelta(days=91)
        self.run(
            "INSERT INTO pool VALUES (:number, :state, :frozen, :frozen, :release)", number=number, state=state,
            frozen=frozen.isoformat(), release=release.isoformat(),
        )  # fmt: skip

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Ten numbers, spelled in several ways."""
    made = Pool(tmp_path / "pool.db")
    monkeypatch.setenv("INVENTORY_URL", made.url)
    for index, number in enumerate(mobiles(10)):
        made.add(("", "+86", "86")[index % 3] + number)
    return made


@pytest.fixture
def folder(tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep over the query."""
    monkeypatch.setattr(sweep, "CHUNK_ROWS", CHUNK)
    made = SweepFolder(tmp_path)
    made.define(inventory={"url": "env:INVENTORY_URL", "query": QUERY})
    return made


def test_the_answer_of_a_query_is_swept(backends: Backends, folder: SweepFolder, pool: Pool) -> None:
    """However the table spells its numbers, each of them is found again before it is sent."""
    backends.broker.declare()
    move_to(backends, START)
    to_rest(folder.stepper(backends))
    (night,) = backends.sweeps.nights(NAME)
    assert (Ending.COMPLETED, 10, {}, "SQL query") == (night.ending, night.accepted, night.stopped, night.source)


def test_what_changed_in_the_table_after_planning_is_not_sent(
    backends: Backends, folder: SweepFolder, pool: Pool
) -> None:
    """Taken back, or gone from the answer: the database is asked again for each chunk."""
    backends.broker.declare()
    move_to(backends, START)
    stepper = folder.stepper(backends)
    stepper.step()
    first, second, third = mobiles(10)[:3]
    pool.run("UPDATE pool SET state = 'RECLAIMED' WHERE number = :number", number=first)
    pool.run("UPDATE pool SET state = 'SOLD' WHERE number = :number", number=f"+86{second}")
    pool.run("DELETE FROM pool WHERE number = :number", number=f"86{third}")
    to_rest(stepper)
    (night,) = backends.sweeps.nights(NAME)
    assert (Ending.COMPLETED, 7) == (night.ending, night.accepted)
    assert {"reclaimed": 1, "not_listed": 2} == night.stopped


def test_a_wrong_row_of_the_answer_is_named_and_the_rest_goes_on(
    backends: Backends, folder: SweepFolder, pool: Pool
) -> None:
    """By its place in the answer and its column."""
    pool.add("12345")
    source = source_of(folder.definition, DAY, folder=folder.folder, vault=backends.vault)
    rows = list(source.rows())
    assert 10 == sum(isinstance(row, InventoryRow) for row in rows)
    (wrong,) = (row for row in rows if isinstance(row, Rejection))
    assert (11, "number") == (wrong.line, wrong.field)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT number FROM pool", "SQL query: column state is missing"),
        ("SELECT number, state, 1 AS colour FROM pool", "SQL query: unknown column colour"),
        (
            "SELECT number, state FROM nowhere WHERE number = '13800000001'",
            "the inventory's database: OperationalError",
        ),
    ],
)
def test_a_query_that_is_wrong_is_named_without_a_number(
    backends: Backends, folder: SweepFolder, pool: Pool, query: str, said: str
) -> None:
    """A database repeats statement and values in its errors, and those may hold numbers."""
    folder.define(inventory={"url": "env:INVENTORY_URL", "query": query})
    source = source_of(folder.definition, DAY, folder=folder.folder, vault=backends.vault)
    with pytest.raises(InputError) as caught:
        list(source.rows())
    assert said in str(caught.value)
    assert "13800000001" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "secret missing: set the environment variable INVENTORY_URL"),
        ("no url, and hush!", "inventory.url: env:INVENTORY_URL holds no URL"),
        ("mysql+pymysql://me:hush@db/x", "inventory.url: env:INVENTORY_URL needs the driver pymysql"),
    ],
)
def test_a_url_that_cannot_be_used_is_named_and_not_repeated(
    backends: Backends, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    """It holds a password."""
    monkeypatch.setenv("INVENTORY_URL", url)
    with pytest.raises(ConfigurationError) as caught:
        source_of(folder.definition, DAY, folder=folder.folder, vault=backends.vault)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)
