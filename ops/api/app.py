"""The app: the routes of the API and of the console, on one door."""

from fastapi import FastAPI

from ops.api import callbacks, health
from ops.api.door import Door
from ops.api.problems import handle_problems

_ABOUT = """Renew recycled phone numbers (二次号码焕新) at every platform, and follow what became of each request."""


def make_app(door: Door) -> FastAPI:
    """Return the app over these stores."""
    app = FastAPI(title="number-renewal", version="1", summary=_ABOUT)
    app.state.door = door
    handle_problems(app)
    app.include_router(health.router)
    app.include_router(callbacks.router)
    return app
