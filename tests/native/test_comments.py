"""What comments of the operator's code promise: the files that they name exist, and they can be read by themselves."""

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("csrc", "svconv", "tests/simulator")
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".cpp", ".cu", ".h", ".py") and "__pycache__" not in path.parts
)
FILE = re.compile(r"(?<![\w<])[\w*./-]*\w\.(?:cpp|cuh?|h|py|csv|md|txt)\b(?!\()")
# A comment that goes on from the name below it, in place of a sentence or a noun.
FRAGMENT = re.compile(r"(Of|As|Also|Beside|Besides|Likewise|Too)\b")


def comments(path: Path) -> list[str]:
    """The blocks of comments and the docstrings of a source."""
    text = path.read_text()
    mark = "#" if path.suffix == ".py" else "//"
    blocks = re.findall(rf"(?:^[ \t]*{mark} .*\n)+|(?<=\S)  {mark} .*\n", text, re.MULTILINE)
    found = [" ".join(re.sub(rf"^\s*{mark} ?", "", line) for line in block.splitlines()) for block in blocks]
    if path.suffix == ".py":
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        found += [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return found


def exists(name: str, source: Path) -> bool:
    """True if a file called so lies beside the source, in a folder above it, or ends its path so in the repository."""
    folders = [folder for folder in source.parents if folder.is_relative_to(ROOT)]
    if "*" not in name and any((folder / name).exists() for folder in folders):
        return True
    return any(fnmatchcase(path.as_posix(), f"*/{name.removeprefix('../')}") for path in ALL)


ALL = [
    path
    for folder in ("csrc", "svconv", "tests", "docs", "benchmarks", "lowlat")
    for path in (ROOT / folder).rglob("*.*")
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_comments_name_exist_and_comments_begin_anew(source):
    found = comments(source)
    named = {name for comment in found for name in FILE.findall(comment)}
    assert [name for name in sorted(named) if not exists(name, source)] == []
    assert [comment for comment in found if FRAGMENT.match(comment)] == []


def test_names_are_found_in_comments_and_docstrings(tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        '"""Reads absent.csv.\n\nAs band_*.absent.h has it."""\nx = 1  # docs/absent.md\n# Of a,\n# absent.cu.\n'
    )
    found = comments(source)
    assert {name for comment in found for name in FILE.findall(comment)} == {
        "absent.csv",
        "band_*.absent.h",
        "docs/absent.md",
        "absent.cu",
    }
    assert any(FRAGMENT.match(comment) for comment in found)
    assert not exists("absent.cu", source) and exists("launch.cu", source) and exists("band_*.cu", source)
