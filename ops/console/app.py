"""The console as an app of its own: its errors are pages, and its headers and its cookie concern nothing else."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from ops.api.door import Door
from ops.console import dead, login, overview, platforms, replays, retries, runs, sweeps
from ops.console.lookout import Lookout
from ops.console.mishap import handle_mishaps
from ops.console.shield import Shield

STATIC: Final = Path(__file__).parent / "static"


def make_console(door: Door) -> FastAPI:
    """Return the pages over these stores, to be mounted at `PREFIX`."""
    console = FastAPI(title="console", openapi_url=None, docs_url=None, redoc_url=None)
    console.state.door = door
    console.state.lookout = Lookout(door)
    for page in (login, overview, platforms, dead, replays, retries, runs, sweeps):
        console.include_router(page.router)
    console.mount("/static", StaticFiles(directory=STATIC))
    console.add_middleware(Shield)
    handle_mishaps(console)
    return console
