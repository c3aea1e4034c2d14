"""Builds the libraries of `svconv` with CMake; everything else is in pyproject.toml."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import setuptools

# Older ones can't read pyproject.toml, and say nothing of the mend. Without build isolation pip looks at none of what
# the build asks for.
if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit(
        f"setup.py: expected setuptools>=77, got {setuptools.__version__}; "
        'pip install "setuptools>=77", then build with --no-build-isolation'
    )

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def torch_include() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None:
        raise SystemExit("setup.py: torch is not installed; install torch>=2.10, then build with --no-build-isolation")
    return Path(spec.submodule_search_locations[0]) / "include"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"setup.py: no {name} on the PATH; pip install {name}, and put what it installs on the PATH")
    return found


class CMakeBuild(build_ext):
    """Builds and installs all libraries into the package; the Extension below only marks the wheel as binary."""

    def build_extension(self, extension: Extension) -> None:
        targets = [Path(self.get_ext_fullpath(extension.name)).resolve().parent]
        if self.editable_mode:
            # setuptools copies only the extension itself back to the sources.
            targets.append(ROOT / "svconv")
        architectures = os.environ.get("SVCONV_CUDA_ARCHS")
        # A folder for each choice of architectures, so that none is left over from another.
        build = ROOT / "build" / "-".join(["cmake", sys.implementation.cache_tag, *(architectures or "").split()])
        cmake = program("cmake")
        settings = {
            # CMake would remember the first build's, which pip may have put in a folder of that build alone.
            "CMAKE_MAKE_PROGRAM": program("ninja"),
            "SVCONV_VERSION": self.distribution.get_version(),
            "SVCONV_TORCH_INCLUDE": torch_include(),
            "SVCONV_CUDA": os.environ.get("SVCONV_CUDA", "AUTO"),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
        }
        if architectures:
            settings["SVCONV_CUDA_ARCHS"] = architectures
        definitions = [f"-D{name}={value}" for name, value in settings.items()]
        subprocess.run([cmake, "-S", ROOT, "-B", build, "-G", "Ninja", *definitions], check=True)
        subprocess.run([cmake, "--build", build], check=True)
        for target in targets:
            subprocess.run([cmake, "--install", build, "--prefix", target, "--strip"], check=True)


setup(ext_modules=[Extension("svconv._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
