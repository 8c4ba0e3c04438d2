"""docs/lifecycle.md and schemas/state.py say the same: states, transitions and the picture."""

import re
from pathlib import Path

import pytest

from schemas.state import FINAL_STATES, REPLAYABLE, STATES, TRANSITIONS, State, Verdict

DOC = Path(__file__).parents[2] / "docs" / "lifecycle.md"
FINAL = "every final state"
Row = list[str]


def section(title: str) -> str:
    """Return one section of the page."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", DOC.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found, f"docs/lifecycle.md has no section {title!r}"
    return found[1]


def table(title: str) -> list[Row]:
    """Return the cells of the table in one section: the head first, without the line under it."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def states_of(name: str) -> frozenset[State]:
    """Return the states that a heading of the table or a box of the picture stands for."""
    return FINAL_STATES if name in {FINAL, "Final"} else frozenset({State(name)})


def pairs_of_the_code() -> set[tuple[State, State]]:
    """Return every allowed transition."""
    return {(state, after) for state, allowed in TRANSITIONS.items() for after in allowed}


def arrows() -> list[tuple[str, str, str]]:
    """Return the picture's arrows: from, to, label."""
    return re.findall(r"^\s*(\S+) --> ([^\s:]+)(?:: (.*))?$", section("In one picture"), re.MULTILINE)


def test_the_page_lists_every_state_in_the_order_of_the_code() -> None:
    """No state is missing, invented or listed twice."""
    assert [state.value for state in State] == [row[0] for row in table("States")[1:]]


@pytest.mark.parametrize("row", table("States")[1:], ids=lambda row: str(row[0]))
def test_a_state_is_described_as_the_code_has_it(row: Row) -> None:
    """Holder, final and clean are those of the code, and each state is explained."""
    name, holder, final, clean, meaning = row
    rule = STATES[State(name)]
    assert (rule.holder.value, rule.final, rule.clean) == (holder, final == "yes", clean == "yes")
    assert {final, clean} <= {"yes", "no"}
    assert meaning


def test_the_transition_table_is_the_one_of_the_code() -> None:
    """Each `yes` is allowed by the code, and each allowed transition is a `yes`."""
    head, *rows = table("Allowed transitions")
    drawn = {
        (before, after)
        for first, *cells in rows
        for column, cell in zip(head[1:], cells, strict=True)
        if cell == "yes"
        for before in states_of(first)
        for after in states_of(column)
    }
    assert pairs_of_the_code() == drawn
    assert {"", "yes"} == {cell for row in rows for cell in row[1:]}


def test_the_transition_table_has_a_row_and_a_column_for_every_state() -> None:
    """A state that is left out would look as if nothing were allowed."""
    head, *rows = table("Allowed transitions")
    names = [state.value for state in State if state not in FINAL_STATES] + [FINAL]
    assert names == head[1:]
    assert names == [row[0] for row in rows]


def test_the_arrows_of_the_picture_are_the_transitions_of_the_code() -> None:
    """The picture shows every transition once and no other."""
    drawn = [(a, b) for a, b, label in arrows() if "[*]" not in {a, b} and label != "replay"]
    expanded = [(before, after) for a, b in drawn for before in states_of(a) for after in states_of(b)]
    assert pairs_of_the_code() == set(expanded)
    assert len(expanded) == len(set(expanded))


def test_the_replay_arrows_are_the_only_way_back() -> None:
    """Only what a person holds can be replayed, and it starts again at QUEUED."""
    drawn = {(State(a), State(b)) for a, b, label in arrows() if label == "replay"}
    assert {(state, State.QUEUED) for state in REPLAYABLE} == drawn
    assert {state.value for state in REPLAYABLE} == set(re.findall(r"`(\w+)`", section("The way back: replay"))) - {
        "QUEUED"
    }


def test_the_picture_starts_at_queued_and_ends_at_final() -> None:
    """A job comes in at one place and leaves at one."""
    ends = {(a, b) for a, b, _ in arrows() if "[*]" in {a, b}}
    assert {("[*]", "QUEUED"), ("Final", "[*]")} == ends


def test_the_final_box_holds_exactly_the_final_states() -> None:
    """What stands in the box is final, and all that is final stands in it."""
    box = re.search(r"state Final \{(.*?)\}", section("In one picture"), re.DOTALL)
    assert box
    assert sorted(state.value for state in FINAL_STATES) == sorted(box[1].split())


def test_the_order_of_news_is_the_rank_of_the_code() -> None:
    """The list in rule 3 runs from the lowest rank to the highest."""
    listed = re.search(r"^3\. .*?: (.*);$", section("Why the order of news does not matter"), re.MULTILINE)
    assert listed
    open_states = sorted((s for s in State if s not in FINAL_STATES), key=lambda s: STATES[s].rank)
    assert [state.value for state in open_states] == re.findall(r"`(\w+)`", listed[1])


def test_every_verdict_is_explained() -> None:
    """The last table names the verdicts of the code."""
    assert {verdict.value for verdict in Verdict} == {row[0] for row in table("What a case adds up to")[1:]}
