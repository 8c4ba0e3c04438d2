"""A request as it comes in, over HTTP or at the desk."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from schemas.authorisation import Authorisation
from schemas.batch import Basis
from schemas.errors import InputError

_Text = Annotated[str, StringConstraints(max_length=64)]


class RequestForm(BaseModel):
    """A number, what the operator has on record of it, and what its owner allowed. No name, no document."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    number: Annotated[_Text, Field(description="In any usual spelling.", examples=["13800138000"], repr=False)]
    cutoff_at: Annotated[
        _Text,
        Field(
            description="Since when it is the present owner's, from the operator's records; with its offset.",
            examples=["2026-11-20T10:00:00+08:00"],
        ),
    ]
    basis: Basis = Basis.NEW_OWNER_ACTIVATION
    deactivated_on: Annotated[_Text, Field(description="When it left its last owner; names the cycle.")] = ""
    cycle: Annotated[_Text, Field(description="Your own name of the cycle; else the day of the cut-off.")] = ""
    reference: Annotated[_Text, Field(description="Your own name of the request; no number in it.")] = ""
    authorisation: Authorisation

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read JSON. Raises InputError that names each wrong field and repeats no value."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            found = (f"{'.'.join(map(str, each['loc'])) or 'request'}: {each['msg']}" for each in error.errors())
            raise InputError("; ".join(found)) from None
