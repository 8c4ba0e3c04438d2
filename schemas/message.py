"""What every message has in common: frozen, closed to unknown fields, and read with errors that repeat no value."""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import ContractError
from schemas.number import mask_text

_PROBLEMS_SHOWN_MAX = 5


class Message(BaseModel):
    """Base of what travels through a queue."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    called: ClassVar[str] = "message"

    @classmethod
    def parse(cls, body: str | bytes | dict[str, Any]) -> Self:
        """Read a message. Raises ContractError, which never repeats the message's values."""
        try:
            if isinstance(body, dict):
                return cls.model_validate(body)
            return cls.model_validate_json(body)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:_PROBLEMS_SHOWN_MAX]
            )
            # A name of an unknown field is the sender's text too.
            raise ContractError(mask_text(f"not a {cls.called}: {problems}")) from None
