"""What Triton made of its kernels for GPUs that are not here: the table in resources.csv, and what the design wants."""

import pytest
import triton
import triton_resources as resources

from svconv.triton.compile import TARGETS, specialisations

# Each target takes seconds to compile for: `make test` looks at one of each maker.
QUICK = ("sm_80", "gfx942")
PARAMETERS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough) for name in TARGETS]


@pytest.fixture(scope="module", params=PARAMETERS)
def rows(request):
    """The kernels of one GPU."""
    return [resources.read(each, request.param) for each in specialisations(request.param)]


def test_resources_are_those_of_the_table(rows):
    table = [row for row in resources.read_table() if row.triton == triton.__version__]
    if not table:
        known = {row.triton for row in resources.read_table()}
        pytest.skip(f"the table has rows of Triton {', '.join(known)}, here is {triton.__version__}")
    # After a change: python tests/triton/triton_resources.py --write
    assert resources.format_rows(rows) == resources.format_rows([row for row in table if row.target == rows[0].target])


def test_nothing_is_spilled_and_shared_memory_suffices(rows):
    for row in rows:
        assert row.stack == 0 and row.shared <= resources.SHARED_LIMITS[row.target], row


def test_band_kernels_run_on_tensor_cores_and_exact_ones_do_not(rows):
    for row in rows:
        assert (row.products > 0) == row.kernel.startswith("band_"), row
