"""Tells modules of torch about the operators when somebody imports them.

Importing them all here would make `import svconv` take seconds, for programs that never count FLOPs, compile or shard.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

_waiting: dict[str, list[Callable[[], object]]] = {}


def when_imported(module: str, act: Callable[[], object]) -> None:
    """Calls `act()` once the module is there: at once, or right after its first import."""
    if module in sys.modules:
        act()
        return
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _waiting.setdefault(module, []).append(act)


def constant_to_compilers(function: Callable) -> Callable:
    """The same function; `torch.compile` takes its answer as a constant in place of tracing it."""

    def mark() -> None:
        import torch

        torch.compiler.assume_constant_result(function)

    when_imported("torch._dynamo", mark)
    return function


class _Finder(MetaPathFinder):
    """Finds the modules that are waited for as the finders after it do, and acts when they have been executed."""

    def __init__(self) -> None:
        self.looking: set[str] = set()

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in _waiting or fullname in self.looking:
            return None
        self.looking.add(fullname)
        try:
            spec = find_spec(fullname)
        finally:
            self.looking.discard(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_act(module):
                execute(module)
                for act in _waiting.pop(fullname, ()):
                    act()

            spec.loader.exec_module = execute_and_act
        return spec


_FINDER = _Finder()
