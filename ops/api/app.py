"""The app: the routes of the API and of the console, on one door."""

from fastapi import FastAPI
from starlette.responses import RedirectResponse

from ops.api import health
from ops.api.door import Door
from ops.api.problems import handle_problems
from ops.console.app import make_console
from ops.console.place import PREFIX

_ABOUT = """Renew recycled phone numbers (二次号码焕新) at every platform, and follow what became of each request."""


def make_app(door: Door) -> FastAPI:
    """Return the app over these stores."""
    app = FastAPI(title="number-renewal", version="1", summary=_ABOUT)
    app.state.door = door
    handle_problems(app)
    app.include_router(health.router)
    app.mount(PREFIX, make_console(door))
    app.add_api_route("/", _home, include_in_schema=False)
    return app


def _home() -> RedirectResponse:
    """Lead people who type the address alone to the pages."""
    return RedirectResponse(f"{PREFIX}/", 307)
