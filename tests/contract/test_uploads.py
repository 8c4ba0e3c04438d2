"""A file that came over HTTP is read once, however often its reader dies, and no number of it stays on disk."""

import gzip
import os
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import producers.submit
from backends.actions import What
from backends.bootstrap import Backends
from backends.vault import Vault, new_key_file
from ops.instrument_desk import InstrumentDesk
from ops.sealed_file import BLOCK_BYTES, SealedReader, SealedWriter
from ops.uploads import Terms, Uploads
from platforms.catalogue import Catalogue
from schemas.errors import BackendUnavailable, ContractError, InputError, NotFound, Refused
from tests.command import CUTOFF
from tests.fixtures_valkey import NOON

INSTRUMENT = "notice-7"
TERMS = Terms(name="pool.csv", instrument=INSTRUMENT, who="api:desk", form="csv")
ROWS = 9


@pytest.fixture
def uploads(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    """What takes files, read in chunks of four rows, under an instrument that is valid."""
    monkeypatch.setattr(producers.submit, "CHUNK_ROWS", 4)
    backends.broker.declare()
    InstrumentDesk(backends, who="clerk").record(
        {
            "key": INSTRUMENT, "title": "Notice", "document_number": "7", "approver": "head",
            "valid_from": NOON - timedelta(days=1), "valid_until": NOON + timedelta(days=1),
        },
        reason="signed",
    )  # fmt: skip
    return Uploads(backends, Catalogue.load().select(["alipay", "wechat"]))


def content(*, rows: int = ROWS) -> bytes:
    """A file of which every fifth row is bad."""
    lines = ["number,cutoff_at"]
    lines += [f"{'x' if place % 5 == 4 else f'138{place:08d}'},{CUTOFF}" for place in range(rows)]
    return "\n".join(lines).encode() + b"\n"


def hand_in(uploads: Uploads, body: bytes, *, terms: Terms = TERMS, key: str = "k") -> tuple[str, bool]:
    """Hand a file in as the route does. Returns its run, and whether it is new."""
    with uploads.begin(terms, key=key) as upload:
        for start in range(0, len(body), 100):
            upload.write(body[start : start + 100])
        kept = upload.keep()
    uploads.announce(upload.run, terms, again=not kept)
    return upload.run, kept


def counts(backends: Backends, run: str) -> tuple[int, int, int]:
    """Return how many cases, refused rows and duplicates a run has."""
    facts = backends.runs.facts([run])[0]
    return facts.counters.get("accepted"), facts.rejected, facts.duplicate


def left(uploads: Uploads) -> dict[str, bytes]:
    """Return every file that lies there."""
    return {path.name: path.read_bytes() for path in uploads.folder.rglob("*") if path.is_file()}


def test_a_file_is_read_and_its_rows_go(backends: Backends, uploads: Uploads) -> None:
    """What was refused stays, masked; who handed it in and on what it rests is known."""
    run, kept = hand_in(uploads, content())
    assert (True, 1, 0) == (kept, uploads.step(Event()), uploads.step(Event()))
    assert (8, 1, 0) == counts(backends, run)
    assert INSTRUMENT == backends.runs.facts([run])[0].instrument
    assert {"upload.json", "rejected.csv", "lock"} == set(left(uploads))
    rejected = uploads.rejected(run)
    assert rejected is not None
    assert 2 == len(rejected.read_text().splitlines())
    (entry,) = backends.actions.list(what=What.RUN_SUBMIT)
    assert (run, "api:desk", INSTRUMENT) == (entry.action.target, entry.action.who, entry.action.after["instrument"])


def test_no_number_lies_on_disk_before_it_is_read(uploads: Uploads) -> None:
    """The disk of a console is nobody's vault (requirement 22)."""
    hand_in(uploads, content())
    assert b"rows.sealed" not in b"".join(left(uploads).values())
    assert not any(b"138000000" in body for body in left(uploads).values())


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_form_is_read(backends: Backends, uploads: Uploads, form: Any, packed: bool) -> None:
    """CSV and JSON lines, packed or not, as from a file."""
    rows = [orjson.dumps({"number": f"138{place:08d}", "cutoff_at": CUTOFF}) for place in range(3)]
    body = content(rows=3) if form == "csv" else b"\n".join(rows)
    terms = Terms(name="f", instrument=INSTRUMENT, who="w", form=form, packed=packed)
    run, _ = hand_in(uploads, gzip.compress(body) if packed else body, terms=terms)
    uploads.step(Event())
    assert (3, 0, 0) == counts(backends, run)


def test_the_same_file_under_the_same_key_is_the_same_run(backends: Backends, uploads: Uploads) -> None:
    """Also after it was read; another one under this key is refused and changes nothing."""
    run, _ = hand_in(uploads, content())
    assert (run, False) == hand_in(uploads, content())
    uploads.step(Event())
    assert (run, False) == hand_in(uploads, content())
    with pytest.raises(Refused, match="another file"):
        hand_in(uploads, content(rows=2))
    assert (8, 1, 0) == counts(backends, run)
    assert 1 == len(backends.actions.list(what=What.RUN_SUBMIT))


def test_without_a_valid_instrument_nothing_is_taken(backends: Backends, uploads: Uploads) -> None:
    """0 sends: the file is not even stored (requirement 8)."""
    with pytest.raises(NotFound):
        uploads.begin(Terms(name="f", instrument="other", who="w", form="csv"), key="k")
    InstrumentDesk(backends, who="clerk").end(INSTRUMENT, reason="revoked")
    with pytest.raises(Refused, match="was ended"):
        hand_in(uploads, content())
    assert {} == left(uploads)


def test_an_instrument_that_ends_before_the_file_is_read_stops_it(backends: Backends, uploads: Uploads) -> None:
    """The run says why, and the rows are gone."""
    run, _ = hand_in(uploads, content())
    InstrumentDesk(backends, who="clerk").end(INSTRUMENT, reason="revoked")
    uploads.step(Event())
    facts = backends.runs.facts([run])[0]
    assert (0, False) == (facts.counters.get("accepted"), facts.read_whole)
    assert "was ended" in facts.waits
    assert "rows.sealed" not in left(uploads)


@pytest.mark.parametrize("body", [b"", b"nonsense\n1\n", b"\x1f\x8b broken", b"PK\x03\x04"])
def test_a_file_that_cannot_be_read_at_all_is_refused_at_once(uploads: Uploads, body: bytes) -> None:
    """Who sent it hears of it while they are there."""
    with pytest.raises(InputError):
        hand_in(uploads, body)
    assert {} == left(uploads)


def test_a_file_that_breaks_in_the_middle_says_so(
    backends: Backends, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before the break is sent; a packed file that was cut is the usual case."""
    monkeypatch.setattr(producers.submit, "CHUNK_ROWS", 1000)
    body = gzip.compress(content(rows=8_000), mtime=0)
    terms = Terms(name="f", instrument=INSTRUMENT, who="w", form="csv", packed=True)
    run, _ = hand_in(uploads, body[: 3 * len(body) // 4], terms=terms)
    uploads.step(Event())
    facts = backends.runs.facts([run])[0]
    assert "reading has ended" in facts.waits
    assert facts.counters.get("accepted") > 0


def test_a_reader_that_dies_is_replaced(backends: Backends, uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next console goes on behind the last rows that were on their way."""
    run, _ = hand_in(uploads, content())
    with monkeypatch.context() as patch:
        patch.setattr(backends.runs, "note_intake", _away)
        with pytest.raises(BackendUnavailable):
            uploads.step(Event())
    assert "rows.sealed" in left(uploads)
    assert 1 == Uploads(backends, uploads._catalogue).step(Event())
    assert (8, 1, 0) == counts(backends, run)


def _away(*_: object, **__: object) -> None:
    raise BackendUnavailable("away")


def test_a_reader_that_is_told_to_stop_leaves_the_rest(backends: Backends, uploads: Uploads) -> None:
    """A console that ends must not take a file for read."""
    run, _ = hand_in(uploads, content())
    stop = Event()
    stop.set()
    assert 0 == uploads.step(stop)
    assert "rows.sealed" in left(uploads)
    assert (0, 0, 0) == counts(backends, run)


def test_a_run_that_is_cancelled_before_it_is_read_is_not_read(backends: Backends, uploads: Uploads) -> None:
    """`renewal runs cancel` holds for it as for any other."""
    run, _ = hand_in(uploads, content())
    backends.runs.cancel(run, reason="a mistake")
    uploads.step(Event())
    assert (0, 0, 0) == counts(backends, run)
    assert "rows.sealed" not in left(uploads)


def test_what_broke_off_while_it_came_is_let_go(backends: Backends, uploads: Uploads) -> None:
    """A console that was killed while a file came leaves a part of it behind; one that comes now is left alone."""
    with uploads.begin(TERMS, key="k") as upload:
        upload.write(content())
        uploads.step(Event())
        assert 1 == len(list(uploads.folder.iterdir()))
        past_s = NOON.timestamp() - 2 * 3600
        for path in (upload._path, upload._path / "rows.sealed"):
            os.utime(path, (past_s, past_s))
        uploads.step(Event())
        assert [] == list(uploads.folder.iterdir())


# -- the sealed file ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vault() -> Vault:
    """Some keys."""
    return Vault.parse(new_key_file(), source="test")


def sealed(path: Path, vault: Vault, data: bytes) -> int:
    """Write a file. Returns how many blocks it has."""
    with SealedWriter(path, vault, name="n") as writer:
        writer.write(data)
        writer.close()
    return writer.blocks


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(0, 2 * BLOCK_BYTES), max_size=4))
def test_what_is_sealed_is_read_back(tmp_path_factory: pytest.TempPathFactory, vault: Vault, sizes: list[int]) -> None:
    """Whatever the lengths of what comes in."""
    path = tmp_path_factory.mktemp("sealed") / "file"
    parts = [bytes([place]) * size for place, size in enumerate(sizes)]
    with SealedWriter(path, vault, name="n") as writer:
        for part in parts:
            writer.write(part)
        writer.close()
    with SealedReader(path, vault, name="n", blocks=writer.blocks) as reader:
        assert b"".join(parts) == reader.read()


def test_blocks_cannot_be_changed_moved_or_left_out(tmp_path: Path, vault: Vault) -> None:
    """Half a file would be half of a night; a block of another file would be other people's numbers."""
    path = tmp_path / "file"
    blocks = sealed(path, vault, os.urandom(3 * BLOCK_BYTES))
    whole = path.read_bytes()
    size = len(whole) // blocks
    for body, error in (
        (whole[:size], InputError),
        (whole[: size + 2], InputError),
        (whole[size:] + whole[:size], ContractError),
        (whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], ContractError),
    ):
        path.write_bytes(body)
        with SealedReader(path, vault, name="n", blocks=blocks) as reader, pytest.raises(error):
            reader.read()
    path.write_bytes(whole)
    with SealedReader(path, vault, name="other", blocks=blocks) as reader, pytest.raises(ContractError):
        reader.read()
