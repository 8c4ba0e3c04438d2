"""Measure this machine."""

from enum import StrEnum
from typing import Annotated

import typer


class BenchOutput(StrEnum):
    """How `renewal bench` says what it measured."""

    TABLE = "table"
    JSON = "json"


def bench(
    scenario: Annotated[list[str] | None, typer.Argument(help="Which, e.g. bulk single; all when not given.")] = None,
    *,
    rounds: Annotated[int, typer.Option(min=1, max=99, help="How often; medians are taken.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the numbers and the answers.")] = 7,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, to see that it works; nothing is judged.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Also the largest sizes: 10 million jobs.")] = False,
    output: Annotated[BenchOutput, typer.Option("-o", "--output", help="How to print.")] = BenchOutput.TABLE,
) -> None:
    """Measure this machine, beside what others get out of it; exit code 0 only if every must of the design holds.

    Needs the checked out project: benchmarks/README.md says what each scenario measures. All of it takes a while.
    """
    from ops.bench import become_bench

    flags = [flag for flag, wanted in (("--quick", quick), ("--full", full)) if wanted]
    become_bench([*(scenario or ()), f"--rounds={rounds}", f"--seed={seed}", f"--output={output.value}", *flags])
