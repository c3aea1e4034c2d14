"""Fixtures for the tests of the operator: all of them run on NaN-filled memory.

pytest tests/svconv                                       the kernels of each device
pytest tests/svconv --backend triton                      the Triton kernels on a GPU, in place of the compiled ones
TRITON_INTERPRET=1 pytest tests/svconv --backend triton   in Triton's interpreter, on the CPU (tests/triton)
"""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from svconv_cases import DEVICES, TESTED

from svconv import _C, fast
from svconv.dispatch import BACKENDS

# Without a GPU nothing in it can run; pytest's header says so (tests/conftest.py).
collect_ignore = ["test_svconv_cuda.py"]
# What holds for the compiled kernels alone.
COMPILED_ALONE = (
    "test_tensors_choose_the_kernels",
    "test_the_kernels_of_a_device_are_chosen_and_explained",
    "test_raw_entry_equals_the_operator",
    "test_raw_entry_writes_out",
    "test_compiles_to_one_graph",
    "test_opcheck",
)
# An interpreter has no kernels to compile, copies what it is given, and would take minutes for the thousands of images
# of a whole Jacobian.
NOT_INTERPRETED = (
    "test_compiled_package_runs_in_a_fresh_process",
    "test_one_graph_serves_all_sizes_and_keeps_layouts",
    "test_dense_layouts_are_never_copied",
    "test_jacobians",
    "test_hessians",
)
# On a GPU each problem of another backend is compiled, which takes seconds: every nth test of these and no others.
# Where n is coprime to the number of types and layouts all of them come up.
SAMPLE = {
    "test_options": 29,
    "test_kernel_sizes_in_every_type_and_layout": 11,
    "test_sizes": 7,
    "test_layouts_may_differ_and_results_keep_those_of_their_tensors": 3,
    "test_views_with_odd_strides": 5,
    "test_expanded_tensors": 1,
    "test_empty_tensors": 1,
    "test_large_logits_do_not_overflow_and_masked_taps_weigh_nothing": 1,
    "test_nan_comes_through": 1,
    "test_first_and_second_derivatives_are_those_of_finite_differences": 48,
    "test_double_backward_of_every_type_and_layout": 12,
    "test_only_the_gradient_asked_for_is_computed": 1,
    "test_opcheck_of_every_operator": 7,
    "test_fake_results_have_the_strides_of_real_ones": 1,
    "test_autocast_runs_in_its_dtype_and_gradients_keep_their_own": 2,
    "test_memory_is_filled_with_nan_in_these_tests": 1,
    "test_every_window_in_every_type_and_layout": 31,
    "test_windows_of_tiny_frames": 5,
    "test_correlation_of_every_window": 13,
    "test_vmap_over_any_dimension_is_a_loop": 9,
    "test_flops_of_each_product": 1,
    "test_correlation_of_every_type_layout_and_option": 13,
    "test_gradients_of_every_type_and_layout": 3,
    "test_exported_program_holds_one_operator_and_runs_at_any_size": 2,
    "test_sizes_marked_dynamic_compile_once": 1,
    "test_compiled_package_runs_in_a_fresh_process": 1,
    "test_one_graph_serves_all_sizes_and_keeps_layouts": 1,
}


def pytest_configure(config):
    if config.getoption("--backend", None) is not None:
        _test_triton()
    if "cuda" in DEVICES:
        collect_ignore.clear()


def _test_triton():
    from svconv.triton import configs
    from svconv.triton.ops import INTERPRETED, PRODUCTS

    for compiled in ("cuda", "cpu"):
        BACKENDS.pop(compiled, None)
    # The short way leads to the compiled kernels.
    fast.svconv2d = fast.convex_upsample = lambda *arguments: None
    DEVICES[:] = ["cpu"] if INTERPRETED else ["cuda"]
    TESTED.update(backend="triton", products=PRODUCTS, reach=(31, 31))
    if INTERPRETED:
        from triton_interpreter import quicken

        quicken()
        TESTED.update(shape=(2, 6, 9, 13), interpreted=True)
    # One configuration of each kernel is compiled, and none is kept for later.
    candidates = configs.candidates
    configs.candidates = lambda *arguments: candidates(*arguments)[:1]
    configs.cache_of = cache(lambda *arguments: configs.Cache(None))


def pytest_collection_modifyitems(config, items):
    if TESTED["backend"] is None:
        return
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    chosen = {item for item in here if item.originalname not in COMPILED_ALONE}
    chosen &= set(_of_every_device(here) if TESTED["interpreted"] else _sample(here))
    left_out = [item for item in here if item not in chosen]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _of_every_device(items):
    return [item for item in items if "device" in item.fixturenames and item.originalname not in NOT_INTERPRETED]


def _sample(items):
    seen = Counter()
    for item in items:
        stride = 1 if "test_svconv_cuda" in item.nodeid else SAMPLE.get(item.originalname)
        if stride and seen[item.originalname] % stride == 0:
            yield item
        seen[item.originalname] += 1


def pytest_generate_tests(metafunc):
    """`device`, each device that has kernels here: a test that takes it holds for all of them."""
    if "device" in metafunc.fixturenames and "device" not in _own_parameters(metafunc):
        metafunc.parametrize("device", DEVICES)


def _own_parameters(metafunc):
    return {
        name.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in (mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0])
    }


@pytest.fixture(autouse=True)
def _nan_filled_memory(nan_filled_memory):
    yield


@pytest.fixture(params=[name for name, supported in _C.instruction_sets().items() if supported])
def instruction_set(request):
    """Each instruction set that this machine has, forced."""
    _C.force_instruction_set(request.param)
    yield request.param
    _C.force_instruction_set(None)
