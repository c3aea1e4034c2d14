"""What importing the package costs, and what it tells torch about later."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import svconv
from svconv.deferred import when_imported

PACKAGE = Path(svconv.__file__).parent

# Seconds and a hundred megabytes each, for programs that never ask for them.
HEAVY = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.utils.flop_counter", "sympy", "triton")


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_import_brings_no_modules_but_its_own():
    program = """
import sys, torch
before = set(sys.modules)
from svconv import SVConv2d, correlation2d, svconv2d
print(*set(sys.modules) - before)
"""
    brought = run(program).split()
    assert "svconv.ops" in brought
    assert {name for name in brought if name.partition(".")[0] != "svconv"} == set()


def test_a_call_and_its_gradients_bring_no_heavy_modules():
    program = f"""
import sys, torch
from svconv import svconv2d
input, logits = torch.ones(1, 2, 3, 4, requires_grad=True), torch.ones(1, 9, 3, 4, requires_grad=True)
before = set(sys.modules)
svconv2d(input, logits, kernel_size=3).sum().backward()
print([name for name in {HEAVY} if name in set(sys.modules) - before])
"""
    assert run(program).strip() == "[]"


FLOPS = {
    "before": "from torch.utils.flop_counter import FlopCounterMode; import svconv.ops",
    "after": "import svconv.ops; from torch.utils.flop_counter import FlopCounterMode",
    "under another name": "import svconv.ops, torch.utils.flop_counter as f; FlopCounterMode = f.FlopCounterMode",
}


@pytest.mark.parametrize("order", FLOPS)
def test_flops_are_counted_whichever_is_imported_first(order):
    program = f"""
import torch
{FLOPS[order]}
with FlopCounterMode(display=False) as counter:
    torch.ops.svconv.forward(torch.ones(1, 2, 3, 4), torch.ones(1, 9, 3, 4), 3, 1, 1, True, False)
print(counter.get_total_flops())
"""
    assert int(run(program)) == 2 * 2 * 3 * 4 * 9


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that nobody has imported."""
    name = "svconv_waited_for"
    (tmp_path / f"{name}.py").write_text("steps = ['executed']\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_module_is_told_once_and_when_it_is_whole(module):
    when_imported(module, lambda: sys.modules[module].steps.append("first"))
    when_imported(module, lambda: sys.modules[module].steps.append("second"))
    assert module not in sys.modules
    assert __import__(module).steps == ["executed", "first", "second"]
    when_imported(module, lambda: sys.modules[module].steps.append("third"))
    assert __import__(module).steps == ["executed", "first", "second", "third"]


def test_a_module_that_fails_to_import_can_be_imported_again(module, tmp_path):
    source = tmp_path / f"{module}.py"
    when_imported(module, lambda: sys.modules[module].steps.append("told"))
    whole = source.read_text()
    source.write_text("raise RuntimeError('not today')\n")
    with pytest.raises(RuntimeError, match="not today"):
        __import__(module)
    source.write_text(whole)
    assert __import__(module).steps == ["executed", "told"]


def test_a_module_that_is_not_there_stays_absent():
    when_imported("svconv_absent", lambda: None)
    with pytest.raises(ModuleNotFoundError):
        __import__("svconv_absent")


@pytest.fixture
def sources(tmp_path):
    """A clone's folder: the package's sources without libraries."""
    shutil.copytree(PACKAGE, tmp_path / "svconv", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


@pytest.mark.parametrize("statement", ["import svconv", "import svconv.numpy", "from svconv import svconv2d"])
def test_sources_without_libraries_say_what_is_missing_and_what_to_do(statement, sources):
    """They hide the installed package from a Python that is started among them."""
    done = subprocess.run([sys.executable, "-c", statement], cwd=sources, capture_output=True, text=True)
    expected = f"ImportError: svconv: expected the compiled module svconv._C for {sys.implementation.cache_tag} in "
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(expected + f"{sources / 'svconv'}, found none; ")
    assert "start it in another folder, or build the libraries into this one with pip install" in done.stderr


def test_libraries_of_another_python_are_named(sources):
    (sources / "svconv" / "_C.cpython-399-x86_64-linux-gnu.so").touch()
    done = subprocess.run([sys.executable, "-c", "import svconv"], cwd=sources, capture_output=True, text=True)
    assert "found ['_C.cpython-399-x86_64-linux-gnu.so']; build it for this Python with pip install" in done.stderr


def test_operators_that_are_missing_are_named(sources):
    for name in PACKAGE.glob("*.so"):
        if name.name != "svconv_ops.so":
            shutil.copy(name, sources / "svconv")
    program = "import svconv\ntry:\n    svconv.library_path()\nexcept ImportError:\n    import svconv.ops"
    done = subprocess.run([sys.executable, "-c", program], cwd=sources, capture_output=True, text=True)
    assert f"ImportError: svconv: expected the compiled library {sources / 'svconv' / 'svconv_ops.so'}" in done.stderr


def test_the_path_of_the_library_is_public():
    assert svconv.library_path() == PACKAGE / "svconv_ops.so"
    registered = "import torch; torch.ops.load_library({!r}); print(torch.ops.svconv.forward.default)"
    assert run(registered.format(str(svconv.library_path()))).strip() == "svconv.forward.default"
