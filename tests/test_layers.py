"""The shape of the package: imports point downwards only, edges stay edges, and no file or function outgrows a reader.

The layers are those of the architecture: a module may import what is below it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.functions.decorators.function_app import Function, FunctionApp, FunctionBuilder

PACKAGE = "durable_ext"
ROOT = Path(__file__).parents[1] / PACKAGE

# Top to bottom. Names are modules or packages directly under the package root.
FLOOR = {"errors"}
GROUND = {
    "clock",
    "codec",
    "history",
    "host_json",
    "ids",
    "messages",
    "printable",
    "registry",
    "retry",
    "settings",
    "tracebacks",
    "version",
}
CORE = {"engine", "storage"}
MOTION = {"runtime", "client"}
SURFACE = {"http"}
COMPOSITION = {"taskhub"}
EDGES = {"functions", "host", "cli", "testing", "__main__"}
LAYERS = [FLOOR, GROUND, CORE, MOTION, SURFACE, COMPOSITION, EDGES]

# Within one layer: who may know whom. Everything else in a layer is a stranger to its neighbours (or a module that
# shares the ground with others, where only cycles are forbidden).
NEIGHBOURS = {("cli", "host"), ("host", "functions"), ("__main__", "cli")}

MAY_IMPORT_FRAMEWORK = ("functions/", "host/loader.py")
ENGINE_MAY_NOT = {"time", "random", "logging", "asyncio", "threading", "socket", "secrets", "os"}
# The orchestrators written as `async def` run on asyncio's own tasks, over a loop of ours.
ENGINE_MAY = {f"engine/{name}.py": {"asyncio"} for name in ("loop", "coroutines", "strays")}

LONGEST_FILE = 500
LONGEST_FUNCTION = 48  # not counting its docstring

# A Function App to be copied, not a part of the package.
NOT_OURS = "cli/template/"


def modules() -> list[Path]:
    found = (path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.py")))
    return [path for path in found if not path.as_posix().startswith(NOT_OURS)]


def _parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Every module a file imports, lazily or not; not what only type checkers see."""
    tree = _parsed(path)
    nodes = _outside_functions(tree) if top_level_only else _outside_type_checking(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            # `from durable_ext.client import links` means the module links, not what is around it.
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if _exists(name) else node.module for name in submodules)


def _outside_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _outside_type_checking(node)


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in _outside_type_checking(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _exists(module: str) -> bool:
    relative = Path(*module.split(".")[1:])
    return module.startswith(f"{PACKAGE}.") and (
        (ROOT / relative).with_suffix(".py").is_file() or (ROOT / relative / "__init__.py").is_file()
    )


def part_of(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else path.stem


def layer_of(part: str) -> int:
    return next((level for level, parts in enumerate(LAYERS) if part in parts), len(LAYERS))


INSIDE = [path for path in modules() if path != Path("__init__.py")]


def test_every_module_has_a_layer() -> None:
    known = set().union(*LAYERS)
    assert {part_of(path) for path in INSIDE} <= known


@pytest.mark.parametrize("path", INSIDE, ids=Path.as_posix)
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(path)
    for name in imports(path):
        if not name.startswith(f"{PACKAGE}."):
            continue
        other = name.split(".")[1]
        if other == part:
            continue
        level, below = layer_of(part), layer_of(other)
        allowed = below < level or (part, other) in NEIGHBOURS or (part in GROUND and other in GROUND)
        assert allowed, f"{path} imports {name}, which is not below it"


@pytest.mark.parametrize("path", INSIDE, ids=Path.as_posix)
def test_nothing_inside_imports_the_package_root(path: Path) -> None:
    for name in imports(path):
        assert name != PACKAGE, f"{path} imports the package root"


@pytest.mark.parametrize("path", [path for path in INSIDE if part_of(path) != "codec"], ids=Path.as_posix)
def test_the_codec_has_one_door(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith(f"{PACKAGE}.codec.")]


@pytest.mark.parametrize("path", INSIDE, ids=Path.as_posix)
def test_the_framework_is_known_at_its_edge_only(path: Path) -> None:
    if not path.as_posix().startswith(MAY_IMPORT_FRAMEWORK):
        assert not [name for name in imports(path) if name.startswith("azure.functions")]


def _private(value: object) -> set[str]:
    return {name for name in dir(value) if name.startswith("_") and not name.startswith("__")}


def _nothing() -> None: ...


CONTAINER = _private(FunctionApp())
RECORDED = _private(Function(_nothing, "")) | _private(FunctionBuilder(_nothing, ""))  # type: ignore[no-untyped-call]
FRAMEWORK_USERS = [path for path in INSIDE if path.as_posix().startswith(MAY_IMPORT_FRAMEWORK)]


def _private_names_used(path: Path) -> set[str]:
    attributes = [each for each in ast.walk(_parsed(path)) if isinstance(each, ast.Attribute)]
    # `self` may have names of its own, but for the containers, which inherit the framework's.
    on_self = {id(each) for each in attributes if isinstance(each.value, ast.Name) and each.value.id == "self"}
    return {
        each.attr
        for each in attributes
        if each.attr in CONTAINER or (each.attr in RECORDED and id(each) not in on_self)
    }


@pytest.mark.parametrize("path", FRAMEWORK_USERS, ids=Path.as_posix)
def test_what_the_framework_keeps_private_is_touched_in_one_module(path: Path) -> None:
    assert bool(_private_names_used(path)) is (path == Path("functions/azure.py"))


@pytest.mark.parametrize("path", [path for path in INSIDE if part_of(path) == "engine"], ids=Path.as_posix)
def test_the_engine_knows_no_clock_chance_or_log(path: Path) -> None:
    forbidden = ENGINE_MAY_NOT - ENGINE_MAY.get(path.as_posix(), set())
    assert not forbidden & {name.split(".")[0] for name in imports(path)}


def test_no_import_cycles() -> None:
    graph = {_module(path): {name for name in imports(path, top_level_only=True) if _exists(name)} for path in INSIDE}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in graph.get(name, ()):
                walk(target, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


@pytest.mark.parametrize("path", INSIDE, ids=Path.as_posix)
def test_a_file_is_one_idea(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", INSIDE, ids=Path.as_posix)
def test_a_function_is_read_at_a_glance(path: Path) -> None:
    functions = [each for each in ast.walk(_parsed(path)) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {each.name: _lines(each) for each in functions if _lines(each) > LONGEST_FUNCTION} == {}


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = _extent(first) if ast.get_docstring(function) is not None else 0
    return _extent(function) - docstring


def _extent(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", INSIDE, ids=Path.as_posix)
def test_a_logger_is_called_logger(path: Path) -> None:
    assigned = [each for each in ast.walk(_parsed(path)) if isinstance(each, ast.Assign)]
    loggers = [each for each in assigned if "getLogger(" in ast.unparse(each.value)]
    assert {ast.unparse(target) for each in loggers for target in each.targets} <= {"logger"}
