"""The JSON Schema files in docs/schemas as they should be; run as a module (`make schemas`) it writes them."""

import json
from pathlib import Path

import platforms.export
import schemas.export

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def expected() -> dict[Path, str]:
    """Return what each file must hold."""
    found = schemas.export.json_schemas() | platforms.export.json_schemas()
    return {
        FOLDER / f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in found.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in expected().items():
        path.write_text(text, encoding="utf-8")
