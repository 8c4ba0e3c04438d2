"""One YAML file as one validated model: every problem names file and field, and repeats no value."""

from pathlib import Path
from typing import Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import ConfigurationError

_FILE_BYTES_MAX: Final = 64 * 1024
_QUOTE: Final = "'"
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Model = TypeVar("_Model", bound=BaseModel)


def load(path: Path, model: type[_Model]) -> _Model:
    """Read one file. Raises ConfigurationError, with a line for each wrong field."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ConfigurationError(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: cannot be read: not UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: what looks like a date and is none. The library's own words repeat the file.
        raise ConfigurationError(f"{path}: not YAML{_position(error)}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping of fields")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_problems(path, error))) from None


def _problems(path: Path, error: ValidationError) -> list[str]:
    """Name file and field; never the value, which may be a secret put in the wrong place."""
    return [f"{path}: {'.'.join(map(str, e['loc'])) or 'entry'}: {_message(e)}" for e in error.errors()]


def _message(problem: ErrorDetails) -> str:
    """Return pydantic's words, except where they repeat the value."""
    if problem["type"] == "union_tag_invalid":
        return f"{problem['ctx']['discriminator'].strip(_QUOTE)}: expected one of {problem['ctx']['expected_tags']}"
    return problem["msg"]


def _position(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
