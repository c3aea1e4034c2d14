"""The layout of `lowlat`: its core imports no job, no screen and no laboratory, and stays small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "lowlat"
ROOMS = ("adoption", "hub", "video", "jobs", "serve", "cli", "lab")
CORE = sorted(
    path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in ROOMS and path.name != "__main__.py"
)
SCREENS = {"av", "rich", "typer", "matplotlib", "PIL"}
# What each room's files may not import, wherever in the file.
FORBIDDEN = {
    # `models` builds an adopted network by its function's name: the one import of `adoption`, inside that function.
    "core": {*(f"lowlat.{room}" for room in ROOMS if room != "adoption"), *SCREENS},
    "adoption": {*(f"lowlat.{room}" for room in ROOMS if room != "adoption"), *SCREENS},
    "hub": {*(f"lowlat.{room}" for room in ROOMS if room != "hub"), *SCREENS},
    "video": {"lowlat.adoption", "lowlat.hub", "lowlat.jobs", "lowlat.serve", "lowlat.lab", "lowlat.cli"},
    "jobs": {"lowlat.serve", "lowlat.lab", "lowlat.cli"},
    "serve": {"lowlat.lab", "lowlat.cli"},
    "lab": {"lowlat.serve", "lowlat.cli"},
}
MOST_LINES = 5500


def imports(path, *, top=False):
    """Return the modules that a file imports, by their dotted names; `top` leaves out what its functions import."""
    tree = ast.parse(path.read_text())
    inside = set()
    if top:
        functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))]
        inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files_of(room):
    return CORE if room == "core" else sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_run_one_way(room):
    assert files_of(room)
    for path in files_of(room):
        for name in imports(path):
            for barred in FORBIDDEN[room]:
                assert name != barred and not name.startswith(f"{barred}."), f"{path} imports {name}"


def test_adoption_is_beside_the_core():
    reached = {path.name for path in CORE if any(name.startswith("lowlat.adoption") for name in imports(path))}
    assert reached == {"models.py"}
    assert not any(name.startswith("lowlat.adoption") for name in imports(ROOT / "models.py", top=True))


def test_the_command_line_reaches_the_laboratory_inside_its_functions_only():
    reached = set()
    for path in files_of("cli"):
        assert not any(name.startswith("lowlat.lab") for name in imports(path, top=True)), path
        reached |= {name for name in imports(path) if name.startswith("lowlat.lab")}
    assert reached, "this test looks at the wrong folder"


def test_the_core_stays_small():
    lines = {path: len(path.read_text().splitlines()) for path in CORE}
    assert sum(lines.values()) <= MOST_LINES, sorted(lines.items(), key=lambda item: -item[1])[:10]
