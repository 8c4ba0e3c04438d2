"""`renewal`: noun then verb, human on a terminal and machine on a pipe.

Heavy imports stay inside the commands, so that `renewal --help` answers at once.
"""

import os
import sys

import typer

from ops.cli import (
    actions,
    audit,
    callbacks,
    conformance,
    dead,
    events,
    forecast,
    instruments,
    kept,
    keys,
    lookups,
    overdue,
    platforms,
    release,
    renew,
    request,
    retries,
    roles,
    runs,
    sweep,
    watch,
)

EXIT_CODES = """Exit codes: 0 done · 1 failed · 2 usage or input · 3 finished, but some items are dead or invalid ·
5 not found · 6 refused · 7 time limit · 8 Redis or broker down · 130 interrupted"""

app = typer.Typer(
    name="renewal",
    help="Renew recycled phone numbers (二次号码焕新) at every platform, and say what became of each.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
renew.add_to(app)
lookups.add_to(app)
forecast.add_to(app)
audit.add_to(app)
watch.add_to(app)
app.add_typer(sweep.app, name="sweep")
app.add_typer(request.app, name="request")
app.add_typer(instruments.app, name="instruments")
app.add_typer(runs.app, name="runs")
app.add_typer(retries.app, name="retries")
app.add_typer(dead.app, name="dead")
app.add_typer(overdue.app, name="overdue")
conformance.add_to(platforms.app)
app.add_typer(platforms.app, name="platforms")
app.add_typer(release.app, name="release")
app.add_typer(kept.app, name="kept")
app.add_typer(callbacks.app, name="callbacks")
app.add_typer(actions.app, name="actions")
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
roles.add_to(app)


def main() -> None:
    """Run one command; turn every error of ours into one message and its exit code."""
    from schemas.errors import RenewalError

    try:
        app(standalone_mode=True)
    except RenewalError as error:
        print(f"renewal: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader went away (`renewal … | head`): that is its right. Keep the interpreter from saying so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
