"""The app: the routes of the API and of the console, on one door."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ops.api import (
    alerts,
    callbacks,
    cases,
    dead_letters,
    docs_page,
    health,
    jobs,
    kept,
    metrics,
    platforms,
    records,
    release,
    replays,
    requests,
    retries,
    runs,
    sweeps,
    uploads,
)
from ops.api.door import Door
from ops.api.frame import Frame
from ops.api.guard import Guard
from ops.api.problems import ProblemBody, WrongField, documented, handle_problems
from ops.console.app import add_console
from ops.owner import page

# What is answered before a route is reached.
_OF_A_BODY: Final = {str(status): documented(408, 409, 413)[status] for status in (408, 409, 413)}
_ABOUT: Final = "Renew recycled phone numbers (二次号码焕新) at every platform, and follow what became of each request."
# In the order in which the documentation shows them.
_ROUTERS: Final = (
    requests.router,
    cases.router,
    jobs.router,
    release.router,
    uploads.router,
    runs.router,
    platforms.router,
    retries.router,
    dead_letters.router,
    replays.router,
    sweeps.router,
    callbacks.router,
    kept.router,
    alerts.router,
    records.router,
    metrics.router,
    health.router,
    docs_page.router,
    page.router,
)


def make_app(door: Door) -> FastAPI:
    """Return the app over these stores."""
    app = FastAPI(title="number-renewal", version="1", summary=_ABOUT, docs_url=None, redoc_url=None)
    app.state.door = door
    handle_problems(app)
    for router in _ROUTERS:
        app.include_router(router)
    add_console(app, door)
    # The last that is added is the first that is asked.
    app.add_middleware(Guard)
    app.add_middleware(Frame)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's own way to change it
    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: that of the routes, with the problems that they refer to."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        problem = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
        problem.pop("$defs")
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas |= {ProblemBody.__name__: problem, WrongField.__name__: WrongField.model_json_schema()}
        for operations in found["paths"].values():
            if "requestBody" in operations.get("post", {}):
                operations["post"]["responses"] |= _OF_A_BODY
        app.openapi_schema = found
    return app.openapi_schema
