"""What a wheel holds beside the libraries: what it needs, its licences, the weights, the command."""

import os
import shutil
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "lowlat", "svconv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy of the sources, in which the libraries are not built: cmake and ninja do nothing."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("cmake", "ninja"):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, tree)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", folder / "dist"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    with ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = [name for name in wheel if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel[name])


def test_without_extras_it_needs_torch_and_numpy_alone(metadata):
    assert [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need] == ["torch>=2.10", "numpy"]
    assert set(metadata.get_all("Provides-Extra")) == {"live", "serve", "ray", "lab", "export", "triton", "test"}


def test_it_names_and_holds_the_licences_of_code_and_weights(wheel, metadata):
    assert metadata["License-Expression"] == "MIT AND LicenseRef-CamVid-non-commercial"
    assert metadata.get_all("License-File") == ["LICENSE", "lowlat/weights/LICENSE"]
    for path in metadata.get_all("License-File"):
        (kept,) = [name for name in wheel if name.endswith(f".dist-info/licenses/{path}")]
        assert wheel[kept] == (ROOT / path).read_bytes()


def test_it_holds_the_weights_with_their_licence_and_card(wheel):
    for name in ("lite.safetensors", "LICENSE", "README.md"):
        assert wheel[f"lowlat/weights/{name}"] == (ROOT / "lowlat" / "weights" / name).read_bytes()


def test_it_holds_what_its_pages_are_made_of(wheel):
    for name in ("serve/page/index.html", "jobs/report/page.html", "jobs/report/page.css", "jobs/report/page.js"):
        assert wheel[f"lowlat/{name}"] == (ROOT / "lowlat" / name).read_bytes()


def test_it_says_that_the_operator_is_typed(wheel):
    assert wheel["svconv/py.typed"] == b""


def test_its_command_is_the_packages_main(wheel):
    (name,) = [name for name in wheel if name.endswith(".dist-info/entry_points.txt")]
    assert wheel[name].decode().split() == ["[console_scripts]", "lowlat", "=", "lowlat.__main__:main"]
