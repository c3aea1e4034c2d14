"""Saved models that call the operators, in a C++ program without Python: it opens the library first."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch.export import Dim

import svconv
from svconv import SVConv2d

# Compiles a program against libtorch, and a model.
pytestmark = pytest.mark.thorough
TORCH = Path(torch.__file__).parent
SOURCE = Path(__file__).with_name("saved_model.cpp")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "saved_model"
    include = [f"-I{TORCH / folder}" for folder in ("include", "include/torch/csrc/api/include")]
    link = [
        "-Wl,--no-as-needed",
        f"-L{TORCH / 'lib'}",
        f"-Wl,-rpath,{TORCH / 'lib'}",
        "-ltorch",
        "-ltorch_cpu",
        "-lc10",
        "-ldl",
    ]
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, "-std=c++20", "-O0", *include, SOURCE, "-o", path, *link], check=True)
    return path


def save_script(model, tensors, path):
    torch.jit.trace(model, tensors).save(path)


def save_package(model, tensors, path):
    sizes = {0: Dim("n"), 2: Dim("h"), 3: Dim("w")}
    exported = torch.export.export(model, tensors, dynamic_shapes=(sizes, sizes))
    torch._inductor.aoti_compile_and_package(exported, package_path=str(path))


SAVE = {"script": save_script, "package": save_package}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", SAVE)
def test_a_saved_model_runs_without_python(kind, program, tmp_path):
    model = SVConv2d(5, groups=2, padding_mode="renormalize")
    save_to = tmp_path / f"model.{'pt' if kind == 'script' else 'pt2'}"
    SAVE[kind](model, (torch.randn(2, 4, 6, 8), torch.randn(2, 50, 6, 8)), save_to)
    input, logits = torch.randn(3, 4, 9, 7), torch.randn(3, 50, 9, 7)
    torch.save([input, logits, model(input, logits)], tmp_path / "tensors.pt")
    command = [program, svconv.library_path(), kind, save_to, tmp_path / "tensors.pt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([program, "libdl.so.2", *command[2:]], capture_output=True, text=True)
    assert done.returncode != 0 and "svconv" in done.stderr, "it ran without the library"
