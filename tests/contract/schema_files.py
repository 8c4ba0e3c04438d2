"""The files of the contract in docs as they should be: JSON Schemas, and the OpenAPI document of the HTTP API.

Run as a module (`make schemas`) it writes them.
"""

import json
from pathlib import Path
from typing import cast

import platforms.export
import schemas.export
from ops.api.app import describe, make_app
from ops.api.door import Door

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "schemas"
API = DOCS / "api.openapi.json"


def expected() -> dict[Path, str]:
    """Return what each file must hold."""
    found = schemas.export.json_schemas() | platforms.export.json_schemas()
    return {
        FOLDER / f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in found.items()
    }


def expected_api() -> dict[Path, str]:
    """Return what the OpenAPI document must hold. To be described, an app needs no stores."""
    document = describe(make_app(cast("Door", None)))
    return {API: json.dumps(document, indent=1, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in (expected() | expected_api()).items():
        path.write_text(text, encoding="utf-8")
