"""The checks bite: every fault of faults.py, planted in a copy of the kernels, makes its check fail."""

import re
import shutil

import products
import pytest
import simulated
from fault_checks import Check, Fault
from faults import FAULTS
from simulated import KERNELS, Program, SimulatorError

TREE = simulated.BUILD / "faults"


@pytest.fixture(scope="session")
def sound():
    """Programs of the kernels as they are, by sanitizer."""
    programs = {name: Program(simulated.build(products.sources(), name)) for name in {f.sanitizer for f in FAULTS}}
    yield programs
    for program in programs.values():
        program.close()


def plant(fault: Fault) -> Program:
    """Return a program of the kernels with the fault in them."""
    tree = TREE / re.sub(r"\W", "-", fault.name)
    shutil.rmtree(tree, ignore_errors=True)
    kernels = shutil.copytree(KERNELS, tree / "cuda")
    for header in KERNELS.parent.glob("*.h"):
        shutil.copy(header, tree)
    text = (kernels / fault.file).read_text()
    found = text.count(fault.text)
    if found != 1:
        raise LookupError(f"{fault.name}: {fault.file} has {found} times {fault.text!r}; bring the fault up to it")
    (kernels / fault.file).write_text(text.replace(fault.text, fault.replacement))
    objects = [
        simulated.compile(kernels / source.name, fault.sanitizer, kernels)
        if source.name == fault.unit
        else simulated.compile(source, fault.sanitizer)
        for source in (*simulated.RUNTIME, *products.sources())
    ]
    return Program(simulated.link(objects, fault.sanitizer))


def run(program: Program, check: Check) -> None:
    products.check(program, check.case, check.product, check.layout, check.launch)


def one_of_each_kind() -> list:
    """All faults, of which `make test` runs the first of each compiled source and sanitizer."""
    kinds, cases = set(), []
    for fault in FAULTS:
        kind = fault.unit, fault.sanitizer
        cases.append(pytest.param(fault, marks=[pytest.mark.thorough] if kind in kinds else []))
        kinds.add(kind)
    return cases


@pytest.mark.parametrize("fault", one_of_each_kind(), ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_is_caught(sound, fault):
    run(sound[fault.sanitizer], fault.check)
    program = plant(fault)
    try:
        with pytest.raises((AssertionError, SimulatorError)):
            run(program, fault.check)
    finally:
        program.close()


def test_faults_have_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
