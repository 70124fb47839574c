"""The house: which room may import which, and how large a room's pieces are."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "jaxnoise"

FLOORS = (
    {"errors"},
    {"files", "user_code", "compilation"},
    {"data", "optim"},
    {"noise"},
    {"models"},
    {"meta"},
    {"objectives"},
    {"sampling"},
    {"evaluation"},
    {"figures"},
    {"training"},
    {"export", "noise_rater"},
    {"report"},
    {"config"},
    {"experiment"},
    {"run", "study"},
    {"commands"},
    {"cli"},
)
"""From the ground up. A room imports from floors below its own, or from itself."""

MODULES = sorted(ROOT.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """The modules of jaxnoise that a module imports, in functions too."""
    known = {name_of(module) for module in MODULES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
    return {name for name in found if name.split(".")[0] == "jaxnoise"}


def room_of(module):
    return module.split(".")[1] if "." in module else None


def test_every_room_has_a_floor():
    rooms = {room_of(name_of(path)) for path in MODULES} - {None}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_from_floors_below(path):
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    room = room_of(name_of(path))
    if room is None:
        return
    for other in map(room_of, imports_of(path)):
        assert other in (None, room) or floor[other] < floor[room], f"{room} imports {other}"


@pytest.mark.takes_a_second
def test_no_modules_import_each_other_in_a_circle():
    graph = {name_of(path): imports_of(path) for path in MODULES}
    for name, found in graph.items():
        # A package's front page gathers what its modules hold; they do not import it.
        graph[name] = {other for other in found if other in graph and other != name}
    finished: set[str] = set()

    def visit(name, way):
        assert name not in way, " -> ".join([*way, name])
        if name not in finished:
            for other in sorted(graph[name]):
                visit(other, [*way, name])
            finished.add(name)

    for name in sorted(graph):
        visit(name, [])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_over_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400
