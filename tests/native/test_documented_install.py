"""The documented lines of installation, each run in an environment that holds nothing but an old setuptools and torch.

torch 2.13.0 alone is tried: of others the package index at hand has builds of gigabytes (docs/install.md says what was
run). Slow: they download what they install, and build.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "setup.py", "CMakeLists.txt", "README.md", "LICENSE", "MANIFEST.in")
TORCH = "torch==2.13.0"
# What a new environment of Python 3.11 comes with, and what torch 2.10 to 2.12 leave as it is.
OLD_SETUPTOOLS = "setuptools==65.5.0"
CALL = """
import torch, svconv
print(svconv.svconv2d(torch.ones(1, 2, 3, 4), torch.ones(1, 9, 3, 4), kernel_size=3).shape, svconv.__file__)
"""


def lines(page: str) -> list[str]:
    """The lines of a page's shell blocks that install."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if "pip install" in line]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the sources, without what was built in them."""
    folder = tmp_path_factory.mktemp("clone")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    for name in ("csrc", "svconv", "lowlat"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    """A folder in which `environment` comes new from `kept`, by hard links: what pip puts into it takes long."""
    folder = tmp_path_factory.mktemp("environments")
    environment = folder / "environment"
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", "venv", environment], env=variables, check=True)
    # One after the other: torch asks for a newer setuptools than the one that is to be there.
    for package in (TORCH, OLD_SETUPTOOLS):
        command = [environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", package]
        subprocess.run(command, env=variables, check=True)
    environment.rename(folder / "kept")
    return folder


@pytest.fixture
def shell(environments, clone):
    """Runs a line in the clone, as in a new environment that has been activated."""
    environment = environments / "environment"
    shutil.copytree(environments / "kept", environment, symlinks=True, copy_function=os.link)
    constraint = environments / "constraint.txt"
    constraint.write_text(TORCH + "\n")
    variables = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(constraint),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # All architectures of GPUs take minutes, and .ci/run builds them.
        "SVCONV_CUDA": "OFF",
    }

    def run(line: str, folder: Path = clone) -> str:
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    yield run
    shutil.rmtree(environment)


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_the_lines_of_a_page_install_the_package(page, shell, environments, tmp_path):
    found = lines(page)
    assert len(found) >= 2
    for line in found:
        if "SVCONV_CUDA=ON" in line and shutil.which("nvcc") is None:
            continue
        shell(line)
        if any(word.startswith(".") for word in shlex.split(line)):
            said = shell(f"python -c '{CALL}'", tmp_path)
            assert "torch.Size([1, 2, 3, 4])" in said and str(environments / "environment") in said
            shell("pip uninstall --quiet --yes svconv")


def test_build_isolation_needs_no_more_than_pip(shell, tmp_path):
    shell("pip install .")
    assert "torch.Size([1, 2, 3, 4])" in shell(f"python -c '{CALL}'", tmp_path)


def test_without_the_bound_the_mend_is_said(shell):
    """The lines of before: the old setuptools stays."""
    shell("pip install --quiet setuptools wheel pybind11 ninja cmake")
    with pytest.raises(AssertionError, match=r"expected setuptools>=77, got 65\.5\.0; pip install"):
        shell("pip install --no-build-isolation .")
