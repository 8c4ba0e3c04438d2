"""What people ask for: a request of one person, its withdrawal, and the links by which its owner follows it."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from ops.api.access import OperatorCaller, Reader
from ops.api.door import TheDoor
from ops.api.idempotency import KEY_NEEDED, KEY_TAKEN, OnceRoute
from ops.api.problems import Problem, documented
from ops.owner.link_desk import LinkDesk
from ops.request_form import RequestForm
from producers.authorisation_end import AuthorisationEnd
from producers.request import Received, Requests, WrongField
from schemas.authorisation import Authorisation
from schemas.ids import ID_PATTERN

router = APIRouter(prefix="/v1", tags=["requests"], route_class=OnceRoute)
CaseIdPath = Annotated[str, Path(pattern=ID_PATTERN)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True, pattern=r"\S")]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OwnerLinkBody(_Body):
    """A link that was made just now. It is shown once."""

    url: str
    expires_at: datetime


class RequestAnswer(_Body):
    """A request that is on its way."""

    case: str
    known: bool  # the very same request had come before
    platforms: tuple[str, ...]  # those that are asked
    settled: dict[str, str]  # those of the authorisation that another one's answer settles
    owner: OwnerLinkBody

    @classmethod
    def of(cls, received: Received, owner: OwnerLinkBody) -> Self:
        """Return it as it is answered."""
        return cls(
            case=received.case,
            known=received.known,
            platforms=received.platforms,
            settled=received.settled,
            owner=owner,
        )


class AuthorisationAnswer(Authorisation):
    """What the owner allowed in a case, who recorded it, and its withdrawal."""

    recorded_by: str
    recorded_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None


class WithdrawalBody(_Body):
    """Why the owner's authorisation ends; kept in the actions log."""

    reason: Reason


class WithdrawalAnswer(_Body):
    """What the withdrawal stopped: jobs that are cancelled now, and platforms that are told to stop."""

    case: str
    cancelled: int
    withdrawals: int


@router.post("/requests", status_code=202, dependencies=[KEY_NEEDED], responses=documented(409),
             summary="Renew one number, as its owner asked")  # fmt: skip
def submit_request(body: RequestForm, response: Response, *, door: TheDoor, caller: OperatorCaller) -> RequestAnswer:
    """Ask exactly the platforms that the authorisation lists, ahead of all bulk work.

    The same request again gives the same case and changes nothing.
    """
    who = caller.who
    try:
        received = Requests(door.backends, door.catalogue, who=who).take(body)
    except WrongField as wrong:
        field = {"field": f"body.{wrong.field}", "detail": wrong.problem}
        raise Problem(400, f"the request is not right: {wrong}", errors=[field]) from None
    link = LinkDesk(door.backends, who=who).make(received.case)
    response.headers["Location"] = f"/v1/cases/{received.case}"
    return RequestAnswer.of(received, OwnerLinkBody(url=link.url, expires_at=link.expires_at))


@router.get("/cases/{case}/authorisation", responses=documented(404), summary="What the owner allowed in a case")
def show_authorisation(case: CaseIdPath, *, door: TheDoor, _: Reader) -> AuthorisationAnswer:
    """Return it as it was recorded; a case of bulk work has none."""
    door.inspector.case(case)
    given = door.inspector.authorisation(case)
    if given is None:
        raise Problem(404, "this case does not rest on an owner's authorisation")
    return AuthorisationAnswer.model_validate(given.row())


@router.post("/cases/{case}/authorisation/withdraw", dependencies=[KEY_TAKEN], responses=documented(404, 409),
             summary="Withdraw the owner's authorisation")  # fmt: skip
def withdraw_authorisation(
    case: CaseIdPath, body: WithdrawalBody, *, door: TheDoor, caller: OperatorCaller
) -> WithdrawalAnswer:
    """Send nothing more of this case, and tell the platforms that were asked, where they can be told."""
    stopped = AuthorisationEnd(door.backends, who=caller.who).withdraw(case, reason=body.reason)
    return WithdrawalAnswer(case=case, cancelled=stopped.cancelled, withdrawals=stopped.withdrawals)


@router.post("/cases/{case}/owner-links", status_code=201, dependencies=[KEY_TAKEN], responses=documented(404),
             summary="Make a link for the owner of a number")  # fmt: skip
def make_owner_link(case: CaseIdPath, *, door: TheDoor, caller: OperatorCaller) -> OwnerLinkBody:
    """Make a link by which the owner follows this case without a login, for thirty days."""
    link = LinkDesk(door.backends, who=caller.who).make(case)
    return OwnerLinkBody(url=link.url, expires_at=link.expires_at)


@router.delete("/cases/{case}/owner-links", status_code=204, responses=documented(404),
               summary="Revoke the owner's links to a case")  # fmt: skip
def revoke_owner_links(case: CaseIdPath, *, door: TheDoor, caller: OperatorCaller) -> None:
    """Let none of the links that were made so far lead to this case any more."""
    LinkDesk(door.backends, who=caller.who).revoke(case)
