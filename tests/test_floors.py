"""The house rules that a parser can check: floors, circles, sizes, names, docstrings."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FLOORS = {
    "errors": 0,
    "regular": 0,
    "maps": 0,
    "irf": 1,
    "observation": 1.5,  # it holds responses
    "products": 2,
    "config": 3,
    "dl3": 3,
    "store": 3,
    "simulate": 3.5,  # it writes through the store
    "pipeline": 4,
    "plan": 5,
    "report": 6,
    "tools": 6,
    "cli": 7,
}
TOP = 99
KINDS = {".py", ".html", ".js", ".css", ".csv"}
MAX_MODULE_LINES, MAX_BODY_LINES, MAX_ARGUMENTS = 500, 50, 8
MAX_MODULES, MAX_LINES, MAX_LOOSE = 130, 20_000, 25
FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "manager", "managers"}
WORKER_LIBRARIES = {"numpy", "scipy", "astropy", "h5py", "hdf5plugin", "erfa", "isal"}
FURTHER_LIBRARIES = {
    "cubeflow.dl3.exclusions": {"regions"},
    "cubeflow.maps.cube": {"gammapy", "matplotlib"},
    "cubeflow.products.tiles": {"hpgeom"},
    "cubeflow.store.fits": {"yaml"},
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}


def imported_names(name: str) -> Iterator[str]:
    """Full names of everything a module imports, at its top or later."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: expected an absolute import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(name: str) -> set[str]:
    """Modules of this package that a module imports."""
    found = set()
    for imported in imported_names(name):
        parts = imported.split(".")
        known = [".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in MODULES]
        found |= set(known[:1])
    return found


def part(name: str) -> str:
    """Package or module right below ``cubeflow``."""
    return [*name.split("."), ""][1]


def floor(name: str) -> float:
    return FLOORS[part(name)] if part(name) else TOP


def functions(name: str) -> Iterator[Function]:
    return (node for node in ast.walk(TREES[name]) if isinstance(node, Function))


def test_every_part_has_a_floor() -> None:
    assert {part(name) for name in MODULES if part(name)} <= set(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_come_from_floors_below(name: str) -> None:
    for imported in imported_modules(name):
        is_below = floor(imported) < floor(name)
        assert is_below or part(imported) == part(name), f"{name} (floor {floor(name)}) imports {imported}"


def test_no_circles() -> None:
    graph = {name: imported_modules(name) for name in MODULES}
    while graph:
        free = {name for name, imported in graph.items() if not imported & set(graph)}
        assert free, f"modules that import each other: {sorted(graph)}"
        graph = {name: imported for name, imported in graph.items() if name not in free}


def test_no_two_parts_import_each_other() -> None:
    """Floors are ordered; on one of them nobody imports a neighbour, so that no circle of packages is possible."""
    pairs = {(part(name), part(other)) for name in MODULES for other in imported_modules(name)}
    assert not [(one, other) for one, other in pairs if one != other and (other, one) in pairs]


def test_the_house_stays_small() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in SOURCE.rglob("*") if path.suffix in KINDS)
    assert len(MODULES) <= MAX_MODULES
    assert lines <= MAX_LINES


def test_dictionaries_of_anything_are_few() -> None:
    """Between configuration, plan and products travel dataclasses."""
    loose = {name: len(re.findall(r"(?:Mapping|dict)\[str, Any\]", MODULES[name].read_text())) for name in MODULES}
    assert sum(loose.values()) <= MAX_LOOSE, {name: count for name, count in loose.items() if count}
    assert not [name for name, count in loose.items() if count and part(name) == "products"]


@pytest.mark.parametrize("name", MODULES)
def test_what_a_library_does_is_not_written_again(name: str) -> None:
    """Low-level HDF5, cards of FITS headers, and clocks of files."""
    text = MODULES[name].read_text()
    assert not re.search(r"h5py\.h5|from h5py import h5|os\.utime|TFORM\d|ancient", text)


def test_only_inputs_from_outside_are_ancient() -> None:
    rules = Path(__file__).parents[1] / "workflow"
    lines = [line for path in rules.rglob("*") if path.is_file() for line in path.read_text().splitlines()]
    assert [line.strip() for line in lines if "ancient(" in line] == ["dl3=ancient(local(PLAN.sources(_job))),"] * 2


@pytest.mark.parametrize("name", [name for name in MODULES if floor(name) <= 3 and part(name) != "config"])
def test_workers_import_few_libraries(name: str) -> None:
    libraries = {imported.split(".")[0] for imported in imported_names(name)}
    allowed = WORKER_LIBRARIES | FURTHER_LIBRARIES.get(name, set()) | {"cubeflow"}
    assert libraries - set(sys.stdlib_module_names) <= allowed


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_are_small(name: str) -> None:
    lines = len(MODULES[name].read_text().splitlines())
    too_large = [f"{name}: {lines} lines"] if lines > MAX_MODULE_LINES else []
    for function in functions(name):
        body, count = body_lines(function), len(arguments(function))
        if body > MAX_BODY_LINES:
            too_large.append(f"{name}:{function.lineno}: {function.name} has {body} lines")
        if count > MAX_ARGUMENTS:
            too_large.append(f"{name}:{function.lineno}: {function.name} has {count} arguments")
    assert not too_large


def body_lines(function: Function) -> int:
    """Lines of a body without its docstring."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def arguments(function: Function) -> list[str]:
    """Names of the arguments without ``self`` and ``cls``."""
    given = function.args
    extra = [argument for argument in (given.vararg, given.kwarg) if argument]
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, *extra)]
    return [name for name in names if name not in ("self", "cls")]


@pytest.mark.parametrize("name", MODULES)
def test_names_say_something(name: str) -> None:
    named = [name.split(".")[-1]]
    named += [node.name for node in ast.walk(TREES[name]) if isinstance(node, Function | ast.ClassDef)]
    assert not [each for each in named if words(each) & FORBIDDEN_NAMES]


def words(name: str) -> set[str]:
    """Lower-case words of a name in either case style."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


@pytest.mark.parametrize("name", MODULES)
def test_public_things_have_docstrings(name: str) -> None:
    tree = TREES[name]
    holders: list[ast.Module | ast.ClassDef] = [tree]
    holders += [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    members = [node for holder in holders for node in holder.body if isinstance(node, Function | ast.ClassDef)]
    bare = [node.name for node in members if not node.name.startswith("_") and ast.get_docstring(node) is None]
    assert ast.get_docstring(tree) is not None
    assert not bare


def test_the_rules_see_what_they_should() -> None:
    function = ast.parse("def f(self, a, *b, c=1, **d):\n  'doc'\n  x = 1\n\n  return x").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert (body_lines(function), arguments(function)) == (3, ["a", "c", "b", "d"])
    assert words("StackManager") == {"stack", "manager"}
    assert words("io_utils") == {"io", "utils"}
    assert "cubeflow.maps.axis" in imported_modules("cubeflow.maps.cube")
