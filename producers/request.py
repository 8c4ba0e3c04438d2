"""The request of one person: a number, its cut-off from the operator's own records, and what its owner allowed.

First the authorisation is kept, then the case is handed in: nothing is ever sent of a case before it is known what may
be. Who died in between is completed by the same request again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from backends.bootstrap import Backends
from platforms.catalogue import Catalogue
from producers.rows import Rejection, Row, RowProblem, RowRules
from producers.submit import Intake, Submitter
from schemas.authorisation import Authorisation
from schemas.batch import Basis, Lane
from schemas.errors import BackendUnavailable, InputError, Refused
from schemas.ids import case_id, derive

_SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
# The clocks of who records and of who sends differ a little.
_AHEAD_MAX: Final = timedelta(minutes=5)


class WrongField(InputError):
    """One field of a request is wrong. The message repeats no value."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


class Asked(Protocol):
    """What is asked for. All but the authorisation are texts, read by the rules of an input file's row."""

    @property
    def number(self) -> str:
        """The number, in any usual spelling."""
        ...

    @property
    def cutoff_at(self) -> str:
        """Since when it is its present owner's, as the operator has it on record."""
        ...

    @property
    def basis(self) -> Basis:
        """What the cut-off rests on."""
        ...

    @property
    def deactivated_on(self) -> str:
        """When it left its last owner; names the cycle where `cycle` does not."""
        ...

    @property
    def cycle(self) -> str:
        """The operator's name of the cycle; without it and `deactivated_on`, the day of the cut-off."""
        ...

    @property
    def reference(self) -> str:
        """The operator's own name of the request."""
        ...

    @property
    def authorisation(self) -> Authorisation:
        """What the owner allowed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request that is on its way, now or since an earlier time."""

    case: str
    platforms: tuple[str, ...]  # those that are asked; the others of the authorisation are settled by one of them
    settled: dict[str, str]
    known: bool


class Requests:
    """Takes requests. Raises WrongField, Refused, BackendUnavailable."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, who: str) -> None:
        self._backends, self._catalogue, self._who = backends, catalogue, who
        self._operator = backends.settings.operator
        self._submitter = Submitter(backends, catalogue, operator=self._operator, lane=Lane.INTERACTIVE)

    def take(self, asked: Asked) -> Received:
        """Put a request on its way; the same one again changes nothing and gives the same case.

        Refused where the number has a case in this cycle already that rests on something else.
        """
        now = self._backends.clock.now()
        row = self._row(asked, now=now)
        token = self._backends.vault.token(row.number)
        case = case_id(operator=self._operator, number_token=token, cycle=row.cycle)
        known = self._held_against(case, row, asked.authorisation)
        self._backends.authorisations.record(case, asked.authorisation, by=self._who, now=now)
        self._hand_in(row, now=now)
        view = self._backends.store.case(case)
        return Received(case=case, platforms=view.platforms, settled=view.settled, known=known)

    # -- is it right ---------------------------------------------------------------------------------------------------

    def _row(self, asked: Asked, *, now: datetime) -> Row:
        _check(asked.authorisation, self._catalogue, now=now)
        texts = (asked.number, asked.cutoff_at, asked.reference, asked.basis, asked.deactivated_on, asked.cycle, "")
        local = now.astimezone(_SHANGHAI)
        # A run has an order of its cases: here the second of the day.
        line = 1 + local.hour * 3600 + local.minute * 60 + local.second
        try:
            row = RowRules(self._catalogue).row(line, texts)
        except RowProblem as problem:
            raise WrongField(problem.field, problem.problem) from None
        if row.basis is Basis.NEW_OWNER_ACTIVATION and datetime.fromisoformat(row.cutoff_at) > now + _AHEAD_MAX:
            raise WrongField("cutoff_at", "lies ahead; expected when the new owner's contract began")
        return row._replace(platforms=asked.authorisation.platforms)

    def _held_against(self, case: str, row: Row, authorisation: Authorisation) -> bool:
        """Return whether this very request is known. Raises Refused where another one has the case."""
        view = next(self._backends.store.cases([case]), None)
        given = self._backends.authorisations.of(case)
        if given is None:
            if view is not None:
                raise Refused(f"{_taken(case)}, opened without an authorisation; a cycle of its own opens another")
            return False
        if given.withdrawn_at is not None:
            raise Refused(f"{_taken(case)}, and its authorisation was withdrawn; a cycle of its own opens another")
        if given.authorisation != authorisation or (view is not None and view.cutoff_at != row.cutoff_at):
            raise Refused(f"{_taken(case)}, with another authorisation or cut-off; nothing was changed")
        return view is not None

    # -- on its way ----------------------------------------------------------------------------------------------------

    def _hand_in(self, row: Row, *, now: datetime) -> None:
        run = self._run(now)
        intake = self._submitter.submit([row], run=run, on_rejected=_never, on_progress=_not_full)
        assert intake.accepted + intake.duplicate == 1  # noqa: S101 - one row has one end

    def _run(self, now: datetime) -> str:
        """Return the run of the requests of this day, the first that nobody has cancelled."""
        day = now.astimezone(_SHANGHAI).date().isoformat()
        for place in count():
            run = derive("requests", self._operator, day, str(place))
            if not self._backends.runs.cancelled(run):
                self._backends.runs.begin(run, file=f"requests {day}", now=now)
                return run
        raise AssertionError("count() has no end")


def _check(authorisation: Authorisation, catalogue: Catalogue, *, now: datetime) -> None:
    for place, key in enumerate(authorisation.platforms):
        if key not in catalogue:
            raise WrongField(f"authorisation.platforms.{place}", "no such platform in the catalogue")
    if authorisation.given_at > now + _AHEAD_MAX:
        raise WrongField("authorisation.given_at", "lies ahead")
    if authorisation.expires_at <= max(now, authorisation.given_at):
        raise WrongField("authorisation.expires_at", "is over; expected an instant after this one and after given_at")


def _taken(case: str) -> str:
    return f"this number has case {case} in this cycle"


def _never(rejection: Rejection) -> None:
    raise AssertionError(rejection.field)


def _not_full(intake: Intake) -> None:
    if intake.waits:
        raise BackendUnavailable("more requests wait than workers take; try again in a moment")
