"""The house numbers, read off the source.

What ruff can hold (docstrings of everything public, print, complexity) stands in pyproject.toml.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "platforms", "backends", "producers", "workers", "ops", "simulator")
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 600
MODULE_LINES_USUAL = 400
PUBLIC_METHODS_MAX = 15
POSITIONAL_MAX = 3
INIT_POSITIONAL_MAX = 4
# Modules over the usual length, with the length that they must not grow beyond. An entry goes when its module shrinks.
LONG_MODULES: dict[str, int] = {"backends/keys.py": 500}  # every key stands there, by another rule
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}
ENVIRONMENT_READER = "backends/settings.py"
# Run or read from outside the packages: the console script, and what `make schemas` exports.
ENTRY_POINTS = {"ops.cli.main", "schemas.export", "platforms.export"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: str
    tree: ast.Module
    lines: int

    @property
    def name(self) -> str:
        """The name under which it is imported."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def read(folder: str) -> list[Module]:
    """Return every module below a folder."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT).as_posix()
        found.append(Module(path=name, tree=ast.parse(source, filename=name), lines=len(source.splitlines())))
    return found


@cache
def product() -> list[Module]:
    """Return every module of the packages."""
    return [module for package in PACKAGES for module in read(package)]


@cache
def suite() -> list[Module]:
    """Return every module of the tests."""
    return read("tests")


def functions(tree: ast.AST, *, owner: ast.ClassDef | None = None) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Return each function with the class it is a method of."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, owner
            yield from functions(node)
        else:
            yield from functions(node, owner=node if isinstance(node, ast.ClassDef) else owner)


def named(node: ast.AST) -> set[str]:
    """Return the modules that an import statement may mean."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    # A module may also be named as text: a process that is started, a command that is loaded when it is called.
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value, node.value.partition(":")[0]}
    return set()


def positional(function: Function, owner: ast.ClassDef | None) -> int:
    """Return how many arguments can be given by position, self and cls not counted."""
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in function.decorator_list)
    count = len(function.args.posonlyargs) + len(function.args.args)
    return count - 1 if owner and not static and count else count


def is_public_method(function: Function) -> bool:
    """Tell what a class can do from what it knows: a property, or a name that is only spelled, is read like a field."""
    marks = {ast.unparse(mark) for mark in function.decorator_list}
    last = function.body[-1]
    if isinstance(last, ast.Return) and isinstance(last.value, ast.JoinedStr) and len(function.body) <= 2:
        return False
    return not function.name.startswith("_") and not marks & {"property", "cached_property"}


def test_every_package_is_walked() -> None:
    """A package that is missing here would escape every rule below."""
    assert set(PACKAGES) == {path.parent.name for path in ROOT.glob("*/__init__.py")}


def test_a_function_has_at_most_70_lines() -> None:
    """A function is read without scrolling."""
    long = [
        f"{module.path}:{function.lineno} {function.name}"
        for module in product() + suite()
        for function, _ in functions(module.tree)
        if (function.end_lineno or function.lineno) - function.lineno >= FUNCTION_LINES_MAX
    ]
    assert [] == long


def test_a_module_has_at_most_600_lines_and_a_usual_one_400() -> None:
    """A module is one thing; the list of long ones only shrinks."""
    assert [] == [module.path for module in product() if module.lines > MODULE_LINES_MAX]
    assert [] == [
        f"{module.path}: {module.lines} lines"
        for module in product()
        if module.lines > LONG_MODULES.get(module.path, MODULE_LINES_USUAL)
    ]
    usual = {module.path for module in product() if module.lines <= MODULE_LINES_USUAL}
    assert [] == [path for path in LONG_MODULES if path in usual or not (ROOT / path).exists()]


def test_a_class_has_at_most_15_public_methods() -> None:
    """A noun that can do more is two nouns."""
    large = []
    for module in product():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                public = [f.name for f in node.body if isinstance(f, Function) and is_public_method(f)]
                if len(public) > PUBLIC_METHODS_MAX:
                    large.append(f"{module.path}:{node.lineno} {node.name}: {len(public)}")
    assert [] == large


def test_more_than_three_arguments_are_given_by_name() -> None:
    """Nobody should have to count commas."""
    unclear = []
    for module in product():
        for function, owner in functions(module.tree):
            most = INIT_POSITIONAL_MAX if function.name == "__init__" else POSITIONAL_MAX
            if positional(function, owner) > most:
                unclear.append(f"{module.path}:{function.lineno} {function.name}: {positional(function, owner)}")
    assert [] == unclear


def test_no_module_has_a_name_that_says_nothing() -> None:
    """What is put into `utils` is never found again."""
    parts = {module.path: set(module.name.split(".")) for module in product() + suite()}
    assert [] == [path for path, words in parts.items() if words & NAMES_THAT_SAY_NOTHING]


def test_only_the_settings_read_the_environment() -> None:
    """Settings come in by one door and are passed on from there."""
    readers = [
        f"{module.path}:{node.lineno}"
        for module in product()
        if module.path != ENVIRONMENT_READER
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb", "putenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and named(node) & {"os.environ", "os.getenv"})
    ]
    assert [] == readers


def test_no_test_sleeps() -> None:
    """A test waits for what it wants to see, or moves the clock itself."""
    sleeps = [
        f"{module.path}:{node.lineno}"
        for module in suite()
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep")
        or (isinstance(node, ast.ImportFrom) and node.module == "time" and "time.sleep" in named(node))
    ]
    assert [] == sleeps


def test_every_module_is_used() -> None:
    """A file that nothing of the product imports or starts is dead, however well it is tested."""
    used = set(ENTRY_POINTS)
    for module in product():
        used |= {name for node in ast.walk(module.tree) for name in named(node)} - {module.name}
    files = [module for module in product() if not module.path.endswith(("__init__.py", "__main__.py"))]
    assert [] == [module.path for module in files if module.name not in used]


@pytest.mark.parametrize("name", sorted(ENTRY_POINTS))
def test_every_entry_point_exists(name: str) -> None:
    """An exception from the rule above must not outlive its file."""
    assert (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


def test_every_test_says_in_its_docstring_why_the_rule_matters() -> None:
    """The name states the rule; the sentence under it says what would go wrong."""
    silent = [
        f"{module.path}:{function.lineno} {function.name}"
        for module in suite()
        for function, _ in functions(module.tree)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert [] == silent
