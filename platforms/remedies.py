"""What can be done about a refusal: words for the number's owner, and who acts next (requirement 11)."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, RootModel, StringConstraints, model_validator

from platforms.yaml_file import load
from schemas.outcome import Refusal
from schemas.state import Holder

FILE: Final = Path(str(files("platforms"))) / "remedies.yaml"
_Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Remedy(BaseModel):
    """One remedy, in both languages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zh: _Words
    en: _Words
    next_actor: Literal[Holder.OPERATOR, Holder.PLATFORM, Holder.USER]


class _Remedies(RootModel[dict[Refusal, Remedy]]):
    @model_validator(mode="after")
    def _has_every_reason(self) -> Self:
        missing = [reason for reason in Refusal if reason not in self.root]
        if missing:
            raise ValueError(f"expected a remedy for {', '.join(missing)}")
        return self


def remedy_of(reason: Refusal) -> Remedy:
    """Return the remedy for a refusal. Raises ConfigurationError if the data is wrong."""
    return load_remedies(FILE)[reason]


@cache
def load_remedies(path: Path) -> dict[Refusal, Remedy]:
    """Read a file of remedies, one for each reason. Raises ConfigurationError that names file and field."""
    return load(path, _Remedies).root
