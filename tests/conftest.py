"""Fixtures for all tests."""

import pytest
import torch

import svconv


def pytest_addoption(parser):
    parser.addoption("--backend", help="tests/svconv: of this backend in place of the compiled kernels: triton")


def pytest_report_header():
    obstacle = next((row.cuda for row in svconv.backends() if row.name == "cuda"), "tests of another backend")
    return "the operator on CUDA: " + ("tested" if obstacle is None else f"NOT TESTED, {obstacle}")


@pytest.fixture
def nan_filled_memory():
    """Every torch.empty, in Python and in C++, comes filled with NaN: an output not written can't pass."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill
