"""The ledger of effects: what every platform has really done and said, by idempotency key.

In memory four bytes a job, at the place of its case; on disk one JSON line a flush, appended, so that a restarted
simulator goes on where it was. No number is in either: a pair of number and platform is a keyed digest.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Final, Self

import orjson

from schemas.errors import ConfigurationError
from schemas.ids import job_id
from schemas.outcome import Outcome, Refusal
from simulator.world import Answer

FORMAT: Final = 1
# An entry is the answer's place, one bit that is always set, one for the effect, and seven bits that count answers.
_PLACE_SHIFT: Final = 9
_KNOWN: Final = 0x100
_EFFECT: Final = 0x80
ANSWERS_COUNTED_MAX: Final = 0x7F
_FILE_MODE: Final = 0o600
# What is noted of one answer: platform, case, (code, outcome, reason), whether it was sent, pair of the effect.
_Entry = tuple[str, str, tuple[str, str | None, str | None], bool, int | None]


class Book:
    """One platform's pages of the ledger. Every job keeps the first answer it was given."""

    def __init__(self, platform: str, answers: Sequence[Answer], *, ledger: "Ledger") -> None:
        self.platform = platform
        self.effects = 0
        self._answers: list[Answer] = []
        self._words: list[tuple[str, str | None, str | None]] = []
        self._places: dict[Answer, int] = {}
        self._entries = array("I")  # by the place of the case in the ledger; 0 where the job is not known here
        self._known = 0
        self._ledger = ledger
        for answer in answers:
            self._learn(answer)

    def __len__(self) -> int:
        return self._known

    def place_of(self, case: str) -> int | None:
        """Return the place of the answer that this case's job was decided to get, None where it is new."""
        at = self._ledger.cases.get(case)
        entry = self._entries[at] if at is not None and at < len(self._entries) else 0
        return entry >> _PLACE_SHIFT if entry else None

    def write(self, case: str, place: int, *, told: bool, effect_on: int | None = None) -> None:
        """Note that a job was served: whether the answer was sent, and on which pair it had its effect."""
        self._count(case, place, told=told, effect=effect_on is not None)
        if effect_on is not None:
            self._ledger.unbound.add(effect_on)
        self._ledger.append((self.platform, case, self._words[place], told, effect_on))

    def restore(self, case: str, answer: Answer, *, told: bool, effect: bool) -> None:
        """Take over one entry of the file; an answer that the catalogue no longer knows keeps its meaning."""
        place = self._places.get(answer)
        if place is None:
            place = self._learn(answer)
        self._count(case, place, told=told, effect=effect)

    def _learn(self, answer: Answer) -> int:
        self._answers.append(answer)
        outcome, reason = answer.outcome, answer.reason
        self._words.append((answer.code, outcome.value if outcome else None, reason.value if reason else None))
        return self._places.setdefault(answer, len(self._answers) - 1)

    def _count(self, case: str, place: int, *, told: bool, effect: bool) -> None:
        cases, entries = self._ledger.cases, self._entries
        at = cases.setdefault(case, len(cases))
        if at >= len(entries):
            entries.frombytes(bytes((len(cases) - len(entries)) * entries.itemsize))
        entry = entries[at]
        if not entry:
            self._known += 1
            entry = place << _PLACE_SHIFT | _KNOWN
        if effect:
            entry |= _EFFECT
            self.effects += 1
        if told and entry & ANSWERS_COUNTED_MAX < ANSWERS_COUNTED_MAX:
            entry += 1
        entries[at] = entry

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield what `GET /_ledger` shows of each job, as it was when the first row was asked for."""
        for case, entry in zip(list(self._ledger.cases), self._entries[:], strict=False):
            if not entry:
                continue
            answer = self._answers[entry >> _PLACE_SHIFT]
            yield {
                "id": job_id(case, self.platform),
                "platform": self.platform,
                "outcome": answer.outcome,
                "reason": answer.reason,
                "code": answer.code,
                "answers": entry & ANSWERS_COUNTED_MAX,
                "effects": 1 if entry & _EFFECT else 0,
            }


class Ledger:
    """All books.

    `cases` gives each case its place in every book. `unbound` holds the pairs that were unbound. `repeat_pairs` counts
    requests for such a pair under another key: each is a fault of the dispatcher, or a number in two cycles.

    Raises ConfigurationError for a file of another seed, or one that is no ledger.
    """

    def __init__(self, answers: Mapping[str, Sequence[Answer]], *, seed: int, path: Path | None = None) -> None:
        self.unbound: set[int] = set()
        self.cases: dict[str, int] = {}
        self.repeat_pairs = 0
        self.books = {platform: Book(platform, known, ledger=self) for platform, known in answers.items()}
        self._fresh: list[_Entry] = []
        self._file: FileIO | None = None
        if path is not None:
            self._open(path, seed=seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def effects(self) -> int:
        """How many unbinds were carried out."""
        return sum(book.effects for book in self.books.values())

    def __len__(self) -> int:
        return sum(map(len, self.books.values()))

    def rows(self, platform: str | None = None) -> Iterator[dict[str, object]]:
        """Yield every job of one platform or of all."""
        for book in list(self.books.values()):
            if platform is None or book.platform == platform:
                yield from book.rows()

    def append(self, entry: _Entry) -> None:
        """Keep an entry for the next `flush`; without a file there is none."""
        if self._file is not None:
            self._fresh.append(entry)

    def flush(self) -> None:
        """Hand what is new to the operating system: what is told afterwards survives the end of this process."""
        if self._fresh and self._file is not None:
            self._file.write(orjson.dumps(self._fresh, option=orjson.OPT_APPEND_NEWLINE))
            self._fresh.clear()

    def close(self) -> None:
        """Flush and let go of the file. A second time does nothing."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, path: Path, *, seed: int) -> None:
        try:
            path.touch(mode=_FILE_MODE)
            self._load(path, seed=seed)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigurationError(f"{path}: the ledger cannot be opened: {error.strerror}") from None
        if not self._file.tell():
            self._file.write(_header(seed))

    def _load(self, path: Path, *, seed: int) -> None:
        with path.open("rb+") as file:
            whole = 0
            for line in file:
                if not line.endswith(b"\n") and (whole or _header(seed).startswith(line)):
                    # Killed while writing: nobody was told what this line says, so it never happened.
                    file.truncate(whole)
                    break
                self._read_line(line, path=path, seed=seed if not whole else None)
                whole += len(line)

    def _read_line(self, line: bytes, *, path: Path, seed: int | None) -> None:
        try:
            content = orjson.loads(line)
            if seed is None:
                for entry in content:
                    self._restore(entry)
            elif (content["ledger"], content["seed"]) != (FORMAT, seed):
                raise ConfigurationError(f"{path}: a ledger of seed {content['seed']}, this simulator has seed {seed}")
        except (ValueError, TypeError, KeyError):
            raise ConfigurationError(f"{path}: not a ledger of a simulator; remove it or name another file") from None

    def _restore(self, entry: _Entry) -> None:
        platform, case, (code, outcome, reason), told, effect_on = entry
        if platform not in self.books:
            self.books[platform] = Book(platform, (), ledger=self)
        answer = Answer(
            code=code,
            outcome=Outcome(outcome) if outcome else None,
            reason=Refusal(reason) if reason else None,
        )
        self.books[platform].restore(case, answer, told=told, effect=effect_on is not None)
        if effect_on is not None:
            self.unbound.add(effect_on)


def _header(seed: int) -> bytes:
    return orjson.dumps({"ledger": FORMAT, "seed": seed}, option=orjson.OPT_APPEND_NEWLINE)
