"""The loader: a folder of entries, all of them valid or none."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from platforms.model import Platform
from platforms.yaml_file import load
from schemas.errors import CatalogueError, ConfigurationError, NotFound

SAMPLE = Path(str(files("platforms"))) / "data"
_PROBLEMS_SHOWN_MAX = 20


class Catalogue:
    """The platforms of one folder, in order of their keys."""

    def __init__(self, platforms: list[Platform], *, folder: Path) -> None:
        self.folder = folder
        self._by_key = {platform.key: platform for platform in sorted(platforms, key=lambda p: p.key)}

    @classmethod
    def load(cls, folder: Path = SAMPLE) -> "Catalogue":
        """Read every `*.yaml` of a folder.

        Raises CatalogueError that names each wrong file and field; nothing is loaded then.
        """
        if not folder.is_dir():
            raise CatalogueError(f"{folder}: not a folder; a catalogue is a folder of <key>.yaml files")
        platforms: list[Platform] = []
        problems: list[str] = []
        for path in sorted(folder.glob("*.yaml")):
            try:
                platforms.append(_load_entry(path))
            except ConfigurationError as error:
                problems.append(str(error))
        problems += _unsettled(folder, platforms)
        if problems:
            shown = problems[:_PROBLEMS_SHOWN_MAX]
            if len(problems) > len(shown):
                shown.append(f"… and {len(problems) - len(shown)} more files")
            raise CatalogueError("\n".join(shown))
        if not platforms:
            raise CatalogueError(f"{folder}: no <key>.yaml file in this folder")
        return cls(platforms, folder=folder)

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Platform]:
        return iter(self._by_key.values())

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def get(self, key: str) -> Platform:
        """Return one platform. Raises NotFound with the keys that come near."""
        try:
            return self._by_key[key]
        except KeyError:
            raise NotFound(f"unknown platform {key!r}{self._near(key)}") from None

    def select(self, keys: list[str]) -> "Catalogue":
        """Return the catalogue with only these platforms. Raises NotFound."""
        return Catalogue([self.get(key) for key in keys], folder=self.folder)

    def _near(self, key: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(key, self._by_key, n=3)
        return f"; did you mean {', '.join(near)}?" if near else f" (catalogue {self.folder})"


def _unsettled(folder: Path, platforms: list[Platform]) -> list[str]:
    """Name the entries whose `settled_by` leads to no entry, to another account domain, or to one not asked itself."""
    asked = {platform.key: platform.account_domain for platform in platforms if platform.settled_by is None}
    return [
        f"{folder / platform.key}.yaml: settled_by: expected a platform of the account domain"
        f" {platform.account_domain} that is asked itself, found {platform.settled_by}"
        for platform in platforms
        if platform.settled_by is not None and asked.get(platform.settled_by) != platform.account_domain
    ]


def _load_entry(path: Path) -> Platform:
    platform = load(path, Platform)
    if platform.key != path.stem:
        raise CatalogueError(f"{path}: key: is {platform.key!r}, expected the file's name {path.stem!r}")
    return platform
