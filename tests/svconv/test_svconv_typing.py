"""Type checkers on code that calls every public name, in their strictest modes. They take minutes for torch's types."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import svconv
from svconv import compat

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
USER = (HERE / "typed_user.py").read_text()
MISTAKES = {
    "a word for a number": 'svconv2d(features, logits, kernel_size="9")',
    "a name that is not there": "svconv.svconv3d(features, logits)",
    "options of the module in order": "SVConv2d(9, 1)",
    "no size of a window": "compat.na2d_qk(features, features)",
}


def mypy(file: Path) -> subprocess.CompletedProcess:
    options = ("--strict", "--follow-imports=silent", f"--cache-dir={ROOT / 'build' / 'mypy'}")
    command = [sys.executable, "-m", "mypy", *options, file]
    return subprocess.run(command, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True)


def pyright(file: Path) -> subprocess.CompletedProcess:
    settings = {"extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}
    (file.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", file.parent, file]
    return subprocess.run(command, cwd=file.parent, capture_output=True, text=True)


def test_every_public_name_is_called():
    assert (Path(svconv.__file__).parent / "py.typed").exists()
    assert [name for name in svconv.__all__ if f"{name}(" not in USER and f"{name}." not in USER] == []
    functions = [name for name, value in vars(compat).items() if getattr(value, "__module__", "") == "svconv.compat"]
    assert [name for name in functions if not name.startswith("_") and f"compat.{name}(" not in USER] == []


@pytest.mark.thorough
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_code_that_calls_every_public_name_is_clean(checker, tmp_path):
    (tmp_path / "user.py").write_text(USER)
    done = checker(tmp_path / "user.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_mistakes_are_found(checker, tmp_path):
    (tmp_path / "user.py").write_text(USER + "\n".join(MISTAKES.values()))
    done = checker(tmp_path / "user.py")
    lines = len(USER.splitlines())
    for offset in range(len(MISTAKES)):
        assert f"user.py:{lines + 1 + offset}:" in done.stdout, done.stdout + done.stderr
