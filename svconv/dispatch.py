"""The backends in one table, each with both operators. One predicate both selects a backend and explains why not."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from svconv import _C, checks, info, ops, reference, slices, triton, windows
from svconv.arguments import autocast_available, brought_together, cast_by_autocast
from svconv.deferred import constant_to_compilers
from svconv.layout import like
from svconv.precision import asks_for_tf32

_CUDA_BUILD = _C.build_info()["cuda"]


@dataclass(frozen=True)
class Backend:
    """One way to compute the operators.

    `obstacle(device_type=..., device_index=..., dtype=..., **options)`, with the operator's options, is why it can't
    run such a call on this machine, or None if it can; a predicate names the arguments it looks at.
    `run(input, logits, **options)` computes svconv2d on checked arguments; one that `writes_out` does so into the
    tensor `out` if given that too. With the option `cells`, which no public function has, logits are those of
    `svconv.windows.to_cells`. `correlate(query, key, **options)` computes correlation2d. Both read the windows
    that `reads(**options)` is true for; of those any other is put together (`svconv.windows`).
    """

    name: str
    description: str
    obstacle: Callable[..., str | None]
    run: Callable[..., Tensor]
    correlate: Callable[..., Tensor]
    reads: Callable[..., bool] = windows.is_plain
    writes_out: bool = False

    def __call__(self, input: Tensor, logits: Tensor, out: Tensor | None, options: dict[str, object]) -> Tensor:
        if out is None:
            return self._run(input, logits, options)
        if self.writes_out and self.reads(**options):
            return self.run(input, logits, **options, out=out)
        with _without_autocast(input.device.type):
            return out.copy_(self._run(input, logits, options))

    def _run(self, input: Tensor, logits: Tensor, options: dict[str, object]) -> Tensor:
        if self.reads(**options):
            return self.run(input, logits, **options)
        if cast_by_autocast(input, logits):
            input, logits = (t.to(torch.get_autocast_dtype(input.device.type)) for t in (input, logits))
        input, logits = brought_together(input, logits)
        return like(input, windows.svconv2d(self.run, slices.svconv2d, input, logits, **options))

    def correlation(self, query: Tensor, key: Tensor, options: dict[str, object]) -> Tensor:
        if self.reads(**options):
            return self.correlate(query, key, **options)
        query, key = brought_together(query, key)
        return like(query, windows.correlation2d(self.correlate, slices.correlation2d, query, key, **options))


def _any_window(*, cells: bool = False, **_) -> bool:
    return not cells


def _without_autocast(device_type: str) -> AbstractContextManager:
    """Return a context without autocast, so that torch's operators write into an `out` of their arguments' type."""
    return torch.autocast(device_type, enabled=False) if autocast_available(device_type) else nullcontext()


def _cpu_obstacle(*, device_type: str, **_) -> str | None:
    return None if device_type == "cpu" else f"it runs on CPU tensors, got tensors on {device_type!r}"


def _cuda_obstacle(*, device_type: str, device_index: int | None = None, **_) -> str | None:
    if device_type != "cuda":
        return f"it runs on CUDA tensors, got tensors on {device_type!r}"
    return _gpu_obstacle(device_index)


# Looks at the machine, which a compiler can take as it is.
@constant_to_compilers
def _gpu_obstacle(index: int | None) -> str | None:
    """Return why the CUDA kernels can't run on GPU `index`, or None if they can; no index means the current GPU.

    Without a GPU all CUDA tensors are fake ones, so whatever the build has kernels for can run.
    """
    if _CUDA_BUILD.startswith("none"):
        return f"this build has no CUDA kernels, {_CUDA_BUILD}"
    if torch.version.hip is not None:
        return f"it runs on NVIDIA GPUs, got torch for AMD's, {torch.version.hip=}"
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(index)
    if info.built_for(10 * major + minor, _CUDA_BUILD):
        return None
    return f"this build is for {_CUDA_BUILD}, got a GPU of sm_{major}{minor}; SVCONV_CUDA_ARCHS sets others, from sm_80"


def _run_compiled(
    input: Tensor,
    logits: Tensor,
    *,
    padding_mode: str,
    taps: str,
    scale: int,
    cells: bool = False,
    out: Tensor | None = None,
    **options,
) -> Tensor:
    raw = (options[name] for name in ("kernel_size", "dilation", "groups", "normalize"))
    window = ops.raw_window(padding_mode, taps, scale, cells)
    return ops.run(input, logits, out, (*raw, padding_mode == "renormalize", asks_for_tf32(), *window))


def _correlate_compiled(query: Tensor, key: Tensor, *, padding_mode: str, taps: str, scale: int, **options) -> Tensor:
    return ops.correlation(query, key, **options, window=ops.raw_window(padding_mode, taps, scale))


def _slices_obstacle(**_) -> str | None:
    return None if torch.onnx.is_in_onnx_export() else "it stands in for the kernels while a model is exported to ONNX"


def _no_obstacle(**_) -> None:
    return None


# In the order of preference. The last one runs anything.
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "slices",
            "PyTorch's own operators, for ONNX",
            _slices_obstacle,
            slices.svconv2d,
            slices.correlation2d,
            reads=_any_window,
        ),
        Backend(
            "cuda",
            "native kernels for NVIDIA GPUs",
            _cuda_obstacle,
            _run_compiled,
            _correlate_compiled,
            writes_out=True,
        ),
        Backend(
            "cpu",
            "native kernels for the CPU",
            _cpu_obstacle,
            _run_compiled,
            _correlate_compiled,
            reads=ops.reads,
            writes_out=True,
        ),
        Backend("triton", "Triton kernels, for NVIDIA and AMD GPUs", triton.obstacle, triton.run, triton.correlation),
        Backend(
            "reference",
            "unfold and einsum in plain PyTorch",
            _no_obstacle,
            reference.svconv2d,
            reference.correlation2d,
            reads=_any_window,
        ),
    )
}


def check_name(name: str | None, function: str) -> None:
    """Raise TypeError or ValueError unless the name is None or that of a backend."""
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"{function}: expected backend to be None or a str, one of {list(BACKENDS)}, got {checks.shown(name)}; "
            "give its name"
        )
    if name is not None and name not in BACKENDS:
        raise ValueError(
            f"{function}: expected backend to be None or one of {list(BACKENDS)}, got {name!r}; give one of them"
        )


def select(name: str | None, input: Tensor, options: dict[str, object], function: str = "svconv2d") -> Backend:
    """Return the backend called `name`, or for None the first that can run a call with this input and these options.

    Raises:
        TypeError: a name that is no str.
        ValueError: no such backend, or the one asked for can't run; the message begins with `function` and says why.
    """
    check_name(name, function)
    facts = _facts(input, options)
    if name is None:
        return next(backend for backend in BACKENDS.values() if backend.obstacle(**facts) is None)
    backend = BACKENDS[name]
    obstacle = backend.obstacle(**facts)
    if obstacle is not None:
        raise ValueError(f"{function}: backend {name!r} can't run: {obstacle}; use backend=None to choose one that can")
    return backend


def _facts(input: Tensor, options: dict[str, object]) -> dict[str, object]:
    """Return the arguments that every predicate is called with."""
    return {"device_type": input.device.type, "device_index": input.device.index, "dtype": input.dtype, **options}


@dataclass(frozen=True)
class Verdict:
    """A backend and why it can't run a call: `obstacle`, None if it can."""

    name: str
    description: str
    obstacle: str | None

    def __str__(self) -> str:
        return f"{self.name} ({self.description}): " + ("can run" if self.obstacle is None else self.obstacle)


@dataclass(frozen=True)
class Explanation:
    """The backend that runs a call, and the verdict on every backend, in the order of preference."""

    chosen: str
    verdicts: tuple[Verdict, ...]

    def __str__(self) -> str:
        lines = [f"svconv2d runs on {self.chosen!r}"]
        return "\n".join(lines + [f"- {verdict}" for verdict in self.verdicts])


def explain(name: str | None, input: Tensor, options: dict[str, object]) -> Explanation:
    """Return the backend that `select` chooses for the same arguments, and why. Raises the errors of `select`."""
    facts = _facts(input, options)
    verdicts = (Verdict(b.name, b.description, b.obstacle(**facts)) for b in BACKENDS.values())
    return Explanation(select(name, input, options, "explain").name, tuple(verdicts))


@dataclass(frozen=True)
class BackendInfo:
    """A backend, and for CPU and for CUDA tensors why it can't run on this machine, or None if it can."""

    name: str
    description: str
    cpu: str | None
    cuda: str | None


class BackendTable(tuple[BackendInfo, ...]):
    """Backends in the order of preference; prints as a Markdown table."""

    def __str__(self) -> str:
        rows = [("backend", "what it is", "CPU tensors", "CUDA tensors"), ("---",) * 4]
        rows += [(f"`{b.name}`", b.description, b.cpu or "yes", b.cuda or "yes") for b in self]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def backends() -> BackendTable:
    """Return the backends in the order of preference: what each is, and why it can't run, if so.

    They are asked about float32 and the default options.
    """
    return BackendTable(
        BackendInfo(b.name, b.description, cpu=_obstacle_on(b, "cpu"), cuda=_obstacle_on(b, "cuda"))
        for b in BACKENDS.values()
    )


def _obstacle_on(backend: Backend, device_type: str) -> str | None:
    defaults = {"kernel_size": 9, "dilation": 1, "groups": 1, "normalize": True, "padding_mode": "zeros"}
    defaults.update(taps="convolution", scale=1)
    obstacle = backend.obstacle(device_type=device_type, dtype=torch.float32, **defaults)
    if obstacle is None and device_type == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return obstacle
