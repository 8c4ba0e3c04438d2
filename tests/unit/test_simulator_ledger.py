from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.ids import derive
from schemas.outcome import Outcome, Refusal
from simulator.ledger import ANSWERS_COUNTED_MAX, Ledger
from simulator.world import Answer

NONE = Answer(code="NONE", outcome=Outcome.NO_BINDING)
DONE = Answer(code="OK", outcome=Outcome.UNBOUND)
HELD = Answer(code="HELD", outcome=Outcome.REFUSED, reason=Refusal.LEGAL_HOLD)
STRANGE = Answer(code="E 1\n", outcome=None)
ANSWERS = (NONE, DONE, HELD, STRANGE)
CASE = derive("case")
PAIR = 2**64 - 1


def _ledger(path: Path | None = None, *, seed: int = 1, platforms: tuple[str, ...] = ("acme",)) -> Ledger:
    return Ledger(dict.fromkeys(platforms, ANSWERS), seed=seed, path=path)


def _filled(path: Path) -> list[dict[str, object]]:
    with _ledger(path) as ledger:
        book = ledger.books["acme"]
        book.write(CASE, 1, told=False, effect_on=PAIR)
        book.write(CASE, 1, told=True)
        book.write(CASE, 1, told=True)
        book.write(derive("two"), 2, told=True)
        book.write(derive("three"), 3, told=True)
        return list(ledger.rows())


def test_a_row_tells_outcome_answers_and_effects() -> None:
    """A job that was served three times and heard twice has one effect and two answers."""
    ledger = _ledger()
    book = ledger.books["acme"]
    book.write(CASE, 1, told=False, effect_on=PAIR)
    book.write(CASE, 1, told=True)
    book.write(CASE, 1, told=True)
    expected = {
        "id": f"{CASE}.acme",
        "platform": "acme",
        "outcome": Outcome.UNBOUND,
        "reason": None,
        "code": "OK",
        "answers": 2,
        "effects": 1,
    }
    assert [expected] == list(ledger.rows())
    assert ({PAIR}, 1, 1) == (ledger.unbound, ledger.effects, len(ledger))


def test_answers_are_counted_up_to_a_bound_and_never_spill() -> None:
    """However often a job is asked, its effect and its answer stay what they are."""
    ledger = _ledger()
    book = ledger.books["acme"]
    for _ in range(ANSWERS_COUNTED_MAX + 10):
        book.write(CASE, 2, told=True)
    (row,) = ledger.rows()
    assert (ANSWERS_COUNTED_MAX, 0, "HELD", Refusal.LEGAL_HOLD) == (
        row["answers"],
        row["effects"],
        row["code"],
        row["reason"],
    )


def test_a_restarted_ledger_knows_everything(tmp_path: Path) -> None:
    """Loading the file gives the same rows, the same unbound pairs, and goes on in the same file."""
    path = tmp_path / "ledger"
    before = _filled(path)
    with _ledger(path) as ledger:
        assert before == list(ledger.rows())
        assert {PAIR} == ledger.unbound
        assert ledger.books["acme"].place_of(CASE) == 1
        ledger.books["acme"].write(derive("four"), 0, told=True)
    with _ledger(path) as ledger:
        assert len(before) + 1 == len(ledger)


def test_a_restarted_ledger_keeps_what_the_catalogue_no_longer_knows(tmp_path: Path) -> None:
    """A platform or a code that has gone keeps its rows and their meaning."""
    path = tmp_path / "ledger"
    before = _filled(path)
    with Ledger({"other": ANSWERS}, seed=1, path=path) as ledger:
        assert before == list(ledger.rows())
    with Ledger({"acme": (NONE,)}, seed=1, path=path) as ledger:
        assert before == list(ledger.rows("acme"))


def test_a_line_torn_by_a_kill_never_happened(tmp_path: Path) -> None:
    """Half a line at the end is taken away, and what is written next is read again."""
    path = tmp_path / "ledger"
    before = _filled(path)
    with path.open("ab") as file:
        file.write(b'[["acme","')
    with _ledger(path) as ledger:
        assert before == list(ledger.rows())
        ledger.books["acme"].write(derive("four"), 0, told=True)
    with _ledger(path) as ledger:
        assert len(before) + 1 == len(ledger)


def test_a_file_whose_first_line_was_torn_starts_anew(tmp_path: Path) -> None:
    """Killed before the header was whole, nothing was told: the ledger is new."""
    path = tmp_path / "ledger"
    path.write_text('{"ledger":1,"se')
    before = _filled(path)
    with _ledger(path) as ledger:
        assert before == list(ledger.rows())


def test_nothing_is_in_the_file_before_a_flush_and_all_of_it_after(tmp_path: Path) -> None:
    """What was flushed is there for another process, whatever becomes of this one."""
    path = tmp_path / "ledger"
    ledger = _ledger(path)
    ledger.books["acme"].write(CASE, 1, told=True, effect_on=PAIR)
    assert CASE not in path.read_text()
    ledger.flush()
    assert CASE in path.read_text()
    ledger.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """The ledger file is made with mode 0600."""
    _filled(tmp_path / "ledger")
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o600


def test_a_ledger_of_another_seed_is_refused(tmp_path: Path) -> None:
    """Another seed is another world: its effects mean nothing here."""
    _filled(tmp_path / "ledger")
    with pytest.raises(ConfigurationError, match="a ledger of seed 1, this simulator has seed 2"):
        _ledger(tmp_path / "ledger", seed=2)


@pytest.mark.parametrize("content", ["hello", "hello\n", "[1]\n", '{"ledger":1,"seed":1}\n[["acme"]]\n'])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    """A wrong path must not cost somebody's file."""
    path = tmp_path / "ledger"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="not a ledger"):
        _ledger(path)
    assert content == path.read_text()


def test_a_ledger_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    """A missing folder is one clear message."""
    with pytest.raises(ConfigurationError, match="cannot be opened: No such file"):
        _ledger(tmp_path / "missing" / "ledger")
