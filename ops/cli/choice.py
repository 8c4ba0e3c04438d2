"""What a person names, as the stores know it."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ops.inspector import Inspector


def cases_of(inspector: "Inspector", *, number: str | None, case: str | None) -> frozenset[str] | None:
    """Return the cases that --number and --case name, None if neither is given. Raises InputError, NotFound."""
    found: frozenset[str] | None = None
    if number is not None:
        # An argument can be read by every user of the machine; standard input cannot.
        text = typer.get_text_stream("stdin").readline().strip() if number == "-" else number
        found = frozenset(view.id for view in inspector.cases_of_number(text))
    if case is not None:
        known = frozenset({inspector.case(case).id})
        found = known if found is None else found & known
    return found
