"""The table of backends: what is listed, explained and forced; the package without torch until it is needed."""

import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode

import svconv
from svconv import SVConv2d, backends, dispatch, explain, info, svconv2d
from svconv.dispatch import BACKENDS


def tensors(**kwargs):
    return torch.randn(1, 4, 5, 6, **kwargs), torch.randn(1, 9, 5, 6, **kwargs)


def test_the_list_says_what_runs_where():
    rows = {row.name: row for row in backends()}
    assert list(rows) == list(BACKENDS)
    assert rows["cpu"].cpu is None and "it runs on CPU tensors" in rows["cpu"].cuda
    assert rows["reference"].cpu is None
    assert (rows["reference"].cuda is None) == torch.cuda.is_available()
    for name in rows:
        assert f"`{name}`" in str(backends())


def test_the_kernels_of_a_device_are_chosen_and_explained(device):
    explanation = explain(*tensors(device=device), kernel_size=3)
    assert explanation.chosen == device
    assert {verdict.name: verdict.obstacle for verdict in explanation.verdicts}["reference"] is None
    assert str(explanation).startswith(f"svconv2d runs on {device!r}\n")


def test_cuda_tensors_are_explained_without_a_gpu():
    with FakeTensorMode():
        explanation = explain(*tensors(device="cuda"), kernel_size=3)
    without = "triton" if BACKENDS["triton"].obstacle(device_type="cuda") is None else "reference"
    assert explanation.chosen == (without if svconv.build_info()["cuda"].startswith("none") else "cuda")
    assert "it runs on CPU tensors, got tensors on 'cuda'" in str(explanation)


BUILDS = {
    "sm_80 sm_90 sm_100 sm_120 and PTX of compute_120, by nvcc 13.0.88": [80, 86, 87, 89, 90, 100, 103, 120, 121, 130],
    "sm_90 and PTX of compute_90, by nvcc 12.4.1": [90, 100, 103, 120, 121, 130],
    "sm_86 sm_87 and PTX of compute_87, by nvcc 12.4.1": [86, 87, 89, 90, 100, 103, 120, 121, 130],
    "none: no nvcc when it was built": [],
}


@pytest.mark.parametrize("build", BUILDS)
def test_kernels_run_on_their_major_architecture_and_ptx_on_all_later_ones(build):
    gpus = [70, 75, 80, 86, 87, 89, 90, 100, 103, 120, 121, 130]
    assert [gpu for gpu in gpus if info.built_for(gpu, build)] == BUILDS[build]


def plant_gpus(monkeypatch, build, capability, hip=None):
    """GPUs that svconv.dispatch finds, and nobody else; `capability(index)` is that of one."""
    cuda = SimpleNamespace(is_available=lambda: True, get_device_capability=capability)
    monkeypatch.setattr(dispatch, "torch", SimpleNamespace(cuda=cuda, version=SimpleNamespace(hip=hip)))
    monkeypatch.setattr(dispatch, "_CUDA_BUILD", build)


def test_gpus_that_the_build_is_not_for_are_refused(monkeypatch):
    obstacle = BACKENDS["cuda"].obstacle
    plant_gpus(monkeypatch, "sm_90 and PTX of compute_90, by nvcc 13.0.88", {0: (9, 0), 1: (8, 6)}.get)
    assert obstacle(device_type="cuda", device_index=0) is None
    assert "got a GPU of sm_86; SVCONV_CUDA_ARCHS" in obstacle(device_type="cuda", device_index=1)
    plant_gpus(monkeypatch, "sm_90 and PTX of compute_90, by nvcc 13.0.88", {0: (9, 0)}.get, hip="7.0")
    assert "it runs on NVIDIA GPUs" in obstacle(device_type="cuda", device_index=0)


def test_a_compiler_takes_what_is_known_of_the_gpu_as_it_is(monkeypatch):
    def capability(index):
        torch._dynamo.graph_break()  # an error, were it traced
        return 8, 6

    @torch.compile(fullgraph=True, backend="eager")
    def function(x):
        return x + 1 if BACKENDS["cuda"].obstacle(device_type="cuda", device_index=0) is None else x

    plant_gpus(monkeypatch, "sm_80 and PTX of compute_80, by nvcc 13.0.88", capability)
    assert function(torch.zeros(1)) == 1


def test_the_gpu_that_holds_the_input_is_looked_at(monkeypatch):
    monkeypatch.setattr(dispatch, "_gpu_obstacle", lambda index: None if index == 0 else "another GPU")
    with FakeTensorMode():
        first, second = (explain(*tensors(device=f"cuda:{index}"), kernel_size=3) for index in (0, 1))
    assert first.chosen == "cuda" != second.chosen and "another GPU" in str(second)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", BACKENDS)
def test_forcing_runs_the_backend_or_raises_what_is_explained(name, device):
    input, logits = tensors(device=device)
    obstacle = {v.name: v.obstacle for v in explain(input, logits, kernel_size=3).verdicts}[name]
    if obstacle is None:
        assert explain(input, logits, kernel_size=3, backend=name).chosen == name
        assert svconv2d(input, logits, kernel_size=3, backend=name).shape == input.shape
        return
    for function in (svconv2d, explain):
        with pytest.raises(ValueError) as error:
            function(input, logits, kernel_size=3, backend=name)
        assert obstacle in str(error.value)


@pytest.mark.parametrize("options", [{"kernel_size": 4}, {"kernel_size": 5}, {"kernel_size": 3, "backend": "opencl"}])
def test_explain_raises_what_the_operator_raises(options):
    messages = set()
    for function in (svconv2d, explain):
        with pytest.raises(ValueError, match=f"^{function.__name__}: ") as error:
            function(*tensors(), **options)
        messages.add(str(error.value).removeprefix(function.__name__))
    assert len(messages) == 1


def test_dtypes_that_differ_are_refused_where_there_is_no_autocast():
    input, logits = tensors(device="meta")
    with pytest.raises(TypeError, match="one dtype"):
        svconv2d(input, logits.double(), kernel_size=3)


@pytest.mark.parametrize("backend", [None, "cpu", "reference"])
def test_choice_compiles_with_dynamic_shapes(backend):
    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def function(input, logits):
        return svconv.svconv2d(input, logits, kernel_size=3, backend=backend)

    for height in (5, 7):
        input, logits = torch.randn(1, 4, height, 6), torch.randn(1, 9, height, 6)
        torch.testing.assert_close(function(input, logits), svconv2d(input, logits, kernel_size=3))


def test_two_dtypes_under_autocast_compile():
    @torch.compile(fullgraph=True, backend="aot_eager")
    def function(input, logits):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return svconv.svconv2d(input, logits, kernel_size=3)

    input, logits = tensors()
    assert function(input, logits.bfloat16()).dtype == torch.bfloat16


def test_module_pickles():
    module = pickle.loads(pickle.dumps(SVConv2d(3, padding_mode="renormalize")))
    input, logits = tensors()
    assert torch.equal(module(input, logits), svconv2d(input, logits, kernel_size=3, padding_mode="renormalize"))


IMPORTS = {
    "import svconv": "assert 'torch' not in sys.modules; assert {'numpy', *svconv.__all__} <= set(dir(svconv))",
    "import svconv.numpy": "assert 'torch' not in sys.modules",
    "from svconv import svconv2d, SVConv2d, backends, explain": "assert callable(backends) and backends()",
    "from svconv import *": "assert svconv2d and ops.forward and reference.svconv2d and 'numpy' not in globals()",
    "import svconv, torch": "assert svconv.ops.forward and svconv.reference.svconv2d and svconv.functional",
    "import torch, svconv.ops": "assert torch.ops.svconv.forward.default",
    "import svconv  # compile": (
        "import torch; f = torch.compile(lambda i, w: svconv.svconv2d(i, w, kernel_size=3), fullgraph=True, "
        "backend='eager'); assert f(torch.ones(1, 2, 3, 4), torch.ones(1, 9, 3, 4)).shape == (1, 2, 3, 4)"
    ),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("statement", IMPORTS)
def test_names_are_there_however_they_are_imported(statement):
    program = f"import sys\n{statement}\n{IMPORTS[statement]}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'svconv3d'"):
        svconv.svconv3d  # noqa: B018
