"""The console as an app of its own: its errors are pages, and its headers and its cookie concern nothing else."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from ops.api.door import Door
from ops.console import (
    cases,
    dead,
    login,
    overview,
    platforms,
    records,
    replays,
    retries,
    runbooks,
    runs,
    sweeps,
)
from ops.console.lookout import Lookout
from ops.console.mishap import handle_mishaps
from ops.console.place import PREFIX
from ops.console.shield import Shield

STATIC: Final = Path(__file__).parent / "static"
_PAGES: Final = (login, overview, platforms, cases, records, runbooks, dead, replays, retries, runs, sweeps)


def add_console(app: FastAPI, door: Door) -> None:
    """Let an app serve the pages over these stores at `PREFIX`, and lead people who type its address alone there."""
    app.mount(PREFIX, _console(door))
    app.add_api_route("/", lambda: RedirectResponse(f"{PREFIX}/"), include_in_schema=False, response_class=Response)


def _console(door: Door) -> FastAPI:
    console = FastAPI(title="console", openapi_url=None, docs_url=None, redoc_url=None)
    console.state.door = door
    console.state.lookout = Lookout(door)
    for page in _PAGES:
        console.include_router(page.router)
    console.mount("/static", StaticFiles(directory=STATIC))
    console.add_middleware(Shield)
    handle_mishaps(console)
    return console
