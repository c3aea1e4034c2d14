"""Wheels for other machines: what .ci/wheel makes of a build, and that every way to make one leaves torch out alike."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NEEDS_LIBRARIES = pytest.mark.skipif(not list((ROOT / "svconv").glob("*.so")), reason="nothing is built")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that .ci/wheel makes of the libraries at hand: cmake installs copies in place of building them."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "bin").mkdir()
    for name, script in {"ninja": "", "cmake": f'case "$1" in --install) cp {ROOT}/svconv/*.so "$4";; esac'}.items():
        program = folder / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    tree = folder / "tree"
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "*.safetensors")
    for name in (".ci", "lowlat", "svconv"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [tree / ".ci" / "wheel", sys.executable, folder / "built"]
    done = subprocess.run(command, cwd=tree, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (tree / "dist").glob("*.whl")
    return path


@NEEDS_LIBRARIES
def test_its_tag_is_that_of_manylinux_and_it_brings_no_library_of_others(wheel):
    assert re.search(r"-manylinux_2_\d+_\w+\.whl$", wheel.name), wheel.name
    with ZipFile(wheel) as file:
        libraries = sorted(Path(name).name.split(".")[0] for name in file.namelist() if ".so" in name)
    assert libraries == ["_C", "libsvconv_cpu", "svconv_ops"]


@NEEDS_LIBRARIES
def test_its_operators_need_torch_but_no_cuda_runtime(wheel, tmp_path):
    with ZipFile(wheel) as file:
        library = file.extract("svconv/svconv_ops.so", tmp_path)
    needed = re.findall(r"NEEDED.*\[(.+)\]", subprocess.check_output(["readelf", "-d", library], text=True))
    assert "libtorch_cpu.so" in needed and "libsvconv_cpu.so" in needed
    assert not [name for name in needed if "cuda" in name]


def test_the_workflow_repairs_tries_and_skips_as_the_script_does():
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "wheels.yml").read_text())["jobs"].values()
    (settings,) = [step["env"] for step in job["steps"] if "cibuildwheel" in step.get("uses", "")]
    excluded = re.findall(r"--exclude '(\S+)'", (ROOT / ".ci" / "wheel").read_text())
    assert excluded == re.findall(r"--exclude '(\S+)'", settings["CIBW_REPAIR_WHEEL_COMMAND_LINUX"]) != []
    assert ".ci/try_wheel.py" in settings["CIBW_TEST_COMMAND"] and (ROOT / ".ci" / "try_wheel.py").exists()
    oldest = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f"torch=={oldest}.0" in settings["CIBW_TEST_COMMAND"]
