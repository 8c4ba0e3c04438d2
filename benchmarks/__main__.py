"""`python -m benchmarks`: what `renewal bench` and `make bench` run. Ends with 0 only if every must holds."""

import argparse
import json
import signal
import sys
import time
from typing import NoReturn

from benchmarks.bench import Result, run_all
from benchmarks.machine import machine, versions
from benchmarks.quiet import PATIENCE_S, Watch, read
from benchmarks.scenario import Setting
from benchmarks.scenarios import SCENARIOS
from benchmarks.shown import as_json, console, show
from benchmarks.system import forget_environment


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    names = "\n".join(f"  {scenario.name:12} {scenario.about}" for scenario in SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="renewal bench", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"scenarios:\n{names}"
    )
    parser.add_argument("scenario", nargs="*", help="which; all when none is given")
    parser.add_argument("--rounds", type=int, default=3, help="medians are taken over so many")
    parser.add_argument("--seed", type=int, default=7, help="of numbers and answers")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing judged")
    parser.add_argument("--full", action="store_true", help="also the largest sizes: 10 million jobs")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    chosen = parser.parse_args()
    known = {scenario.name for scenario in SCENARIOS}
    if strange := [name for name in chosen.scenario if name not in known]:
        parser.error(f"unknown scenario {', '.join(strange)}; there are {', '.join(sorted(known))}")
    if chosen.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    return chosen


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Measure what was asked for."""
    options = _parse()
    forget_environment()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    chosen = [scenario for scenario in SCENARIOS if not options.scenario or scenario.name in options.scenario]
    setting = Setting(seed=options.seed, quick=options.quick, full=options.full, say=_say)
    results: list[Result] = []
    screen = console()

    def take(result: Result) -> None:
        results.append(result)
        if options.output == "table":
            show(result, screen)

    # A quick run says nothing about speed, so it waits for nobody.
    watch = Watch(read, time.sleep, patience_s=0.0 if options.quick else PATIENCE_S)
    about = {"machine": machine(), "versions": versions(), "seed": options.seed, "rounds": options.rounds}
    if options.output == "table":
        screen.print(" · ".join(f"{name} {value}" for name, value in about["machine"].items()), highlight=False)
        screen.print(" · ".join(f"{name} {value}" for name, value in about["versions"].items()), highlight=False)
    try:
        good = run_all(chosen, setting, rounds=options.rounds, watch=watch, show=take)
    except KeyboardInterrupt:
        _say("renewal: interrupted")
        return 130
    if options.output == "json":
        document = {
            **about,
            "quick": options.quick,
            "holds": None if options.quick else good,
            "scenarios": [as_json(each) for each in results],
        }
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        screen.print("every must holds" if good and not options.quick else _end(results, quick=options.quick))
    return 0 if good else 1


def _end(results: list[Result], *, quick: bool) -> str:
    failed = [result.scenario.name for result in results if not result.holds]
    if failed:
        return f"not every must holds: {', '.join(failed)}"
    return "quick: nothing is judged" if quick else ""


if __name__ == "__main__":
    sys.exit(main())
