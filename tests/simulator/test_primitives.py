"""Each simulated operation against plain numpy: layouts as the PTX ISA gives them, written down a second time here."""

import numpy as np
import pytest
import torch
from simulated import ORDERS, SimulatorError

ORDER = pytest.mark.parametrize("order", ORDERS)
LANE = np.arange(32)
GROUP, IN_GROUP = LANE // 4, LANE % 4


VARIANTS = ("load_x4", "load_x4_trans", "load_x2", "load_x2_trans", "store_x4", "store_x4_trans")


def bits16(x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return torch.from_numpy(x).to(dtype).view(torch.int16).numpy().view(np.uint16)


def pairs(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low.astype(np.uint32) | high.astype(np.uint32) << 16


def spread_sum(c: np.ndarray) -> np.ndarray:
    """Return the registers of a 16x8 matrix of sums, [32 lanes, 4]."""
    row = np.stack([GROUP, GROUP, GROUP + 8, GROUP + 8], 1)
    column = 2 * IN_GROUP[:, None] + np.array([0, 1, 0, 1])
    return c[row, column]


@ORDER
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mma_m16n8k16_multiplies_fragments(primitives, dtype, order):
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal(shape).astype(np.float32) for shape in ((16, 16), (16, 8), (16, 8)))
    a_bits, b_bits = bits16(a, dtype), bits16(b, dtype)
    # a0,a1: (g, 2t), a2,a3: (g + 8, 2t), a4,a5: (g, 2t + 8), a6,a7: (g + 8, 2t + 8)
    row = np.stack([GROUP, GROUP + 8, GROUP, GROUP + 8], 1)
    column = np.stack([2 * IN_GROUP, 2 * IN_GROUP, 2 * IN_GROUP + 8, 2 * IN_GROUP + 8], 1)
    a_registers = pairs(a_bits[row, column], a_bits[row, column + 1])
    # b0,b1: (2t, g), b2,b3: (2t + 8, g)
    row = np.stack([2 * IN_GROUP, 2 * IN_GROUP + 8], 1)
    b_registers = pairs(b_bits[row, GROUP[:, None]], b_bits[row + 1, GROUP[:, None]])
    name = "mma_" + str(dtype).removeprefix("torch.")
    _, _, got = primitives(name, [], [a_registers, b_registers, spread_sum(c)], order=order)
    a, b = (torch.from_numpy(x).to(dtype).double().numpy() for x in (a, b))
    np.testing.assert_allclose(got, spread_sum(c + a @ b), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mma_m16n8k8_multiplies_fragments(primitives, dtype):
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (8, 8), (16, 8)))
    a_bits, b_bits = bits16(a, dtype), bits16(b, dtype)
    # a0,a1: (g, 2t), a2,a3: (g + 8, 2t); b0,b1: (2t, g)
    row, column = np.stack([GROUP, GROUP + 8], 1), 2 * IN_GROUP[:, None]
    a_registers = pairs(a_bits[row, column], a_bits[row, column + 1])
    b_registers = pairs(b_bits[2 * IN_GROUP, GROUP], b_bits[2 * IN_GROUP + 1, GROUP])
    name = "mma_of_8_" + str(dtype).removeprefix("torch.")
    _, _, got = primitives(name, [], [a_registers, b_registers, spread_sum(c)])
    a, b = (torch.from_numpy(x).to(dtype).double().numpy() for x in (a, b))
    np.testing.assert_allclose(got, spread_sum(c + a @ b), rtol=1e-6, atol=1e-5)


def test_mma_m16n8k8_tf32_multiplies_fragments_and_drops_lower_bits(primitives):
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (8, 8), (16, 8)))
    # a0: (g, t), a1: (g + 8, t), a2: (g, t + 4), a3: (g + 8, t + 4); b0: (t, g), b1: (t + 4, g)
    a_registers = a[np.stack([GROUP, GROUP + 8] * 2, 1), np.stack([IN_GROUP] * 2 + [IN_GROUP + 4] * 2, 1)]
    b_registers = b[np.stack([IN_GROUP, IN_GROUP + 4], 1), GROUP[:, None]]
    _, _, got = primitives("mma_tf32", [], [a_registers, b_registers, spread_sum(c)])
    a, b = ((x.view(np.uint32) & 0xFFFFE000).view(np.float32).astype(np.float64) for x in (a, b))
    np.testing.assert_allclose(got, spread_sum(c + a @ b), rtol=1e-6, atol=1e-6)


@pytest.mark.sample(5)
@ORDER
@pytest.mark.parametrize("variant", VARIANTS)
def test_matrices_move_between_shared_memory_and_registers(primitives, variant, order):
    random = np.random.default_rng(0)
    count = 2 if "x2" in variant else 4
    rows = 16 * random.permutation(40)[:32].astype(np.int32)
    if count == 2:
        # The addresses of lanes 16 to 31 aren't read.
        rows[16:] = 3
    image = random.integers(0, 1 << 16, (40, 8)).astype(np.uint16)
    registers = random.integers(0, 1 << 32, (32, 4), dtype=np.uint64).astype(np.uint32)
    _, image_after, registers_after = primitives(
        "matrices", [VARIANTS.index(variant), 640], [rows, image, registers], order=order
    )
    for matrix in range(count):
        of_lane = rows[8 * matrix : 8 * matrix + 8] // 16
        for lane in range(32):
            for half in range(2):
                row, column = lane // 4, 2 * (lane % 4) + half
                if "trans" in variant:
                    row, column = column, row
                register = registers_after if "load" in variant else registers
                got = register[lane, matrix] >> (16 * half) & 0xFFFF
                assert got == image_after[of_lane[row], column]
    if "load" in variant:
        assert (image_after == image).all()
    else:
        untouched = np.setdiff1d(np.arange(40), rows // 16)
        assert (image_after[untouched] == image[untouched]).all()


@ORDER
@pytest.mark.parametrize("size", [4, 8, 16])
def test_copies_are_seen_after_their_wait_only(primitives, size, order):
    threads = 40
    source = np.random.default_rng(0).integers(0, 255, (threads, 2, size)).astype(np.uint8)
    seen = np.zeros((3, threads, 2, size), np.uint8)
    _, (before, one_group, all_groups) = primitives(f"copies_{size}", [threads, 0], [source, seen], order=order)
    assert (before == 0xFF).all()
    assert (one_group[:, 0] == source[:, 0]).all() and (one_group[:, 1] == 0xFF).all()
    assert (all_groups[:, 0] == source[:, 0]).all()
    assert (all_groups[::2, 1] == source[::2, 1]).all() and (all_groups[1::2, 1] == 0).all()


@pytest.mark.sample(5)
@ORDER
@pytest.mark.parametrize("width", [32, 8])
@pytest.mark.parametrize("by", [0, 1, 5, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_shuffles(primitives, dtype, by, width, order):
    values = np.random.default_rng(0).integers(0, 1 << 20, 64).astype(dtype)
    _, got = primitives(f"shuffles_{np.dtype(dtype)}", [by, width], [values, np.zeros((64, 4), dtype)], order=order)
    thread = np.arange(64)
    start = thread // width * width
    for column, source in enumerate((start + by % width, thread ^ by, thread - by, thread + by)):
        # Past its segment a lane keeps its own value; xor may reach into an earlier segment.
        outside = (source >= start + width) | ((source < start) & (column != 1))
        np.testing.assert_array_equal(got[:, column], values[np.where(outside, thread, source)])


@ORDER
def test_votes(primitives, order):
    predicates = np.random.default_rng(0).integers(0, 2, 64).astype(np.int32)
    predicates[32:] = 1
    _, got = primitives("votes", [], [predicates, np.zeros((64, 4), np.int32)], order=order)
    for thread in range(64):
        warp = predicates[thread // 32 * 32 :][:32].astype(np.uint32)
        half = 0x0000FFFF if thread % 32 < 16 else 0xFFFF0000
        ballot = int((warp << LANE.astype(np.uint32)).sum()) & half
        assert list(got[thread]) == [np.uint32(ballot).view(np.int32), warp.any(), warp.all(), predicates.sum()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_types_round_as_in_torch(primitives, dtype):
    random = np.random.default_rng(0)
    every = torch.arange(1 << 16).to(torch.int16).view(dtype).float().numpy()
    wide = random.standard_normal(4096) * 10.0 ** random.uniform(-9, 6, 4096)
    x = np.concatenate([every, wide.astype(np.float32)])
    n = len(x)
    buffers = [x, np.zeros(n, np.uint16), np.zeros(n, np.float32), np.zeros(n, np.uint32)]
    _, bits, back, packed = primitives("convert_" + str(dtype).removeprefix("torch."), [n], buffers)
    want = torch.from_numpy(x).to(dtype).float().numpy()
    np.testing.assert_array_equal(back, want)
    number = ~np.isnan(x)
    np.testing.assert_array_equal(bits[number], bits16(x, dtype)[number])
    np.testing.assert_array_equal(packed[number], pairs(bits, bits16(-x, dtype))[number])


@ORDER
def test_every_thread_of_every_block_runs_on_unwritten_shared_memory(primitives, order):
    numbers, is_nan = primitives("index", [], [np.zeros(720, np.int32), np.zeros(720, np.uint32)], order=order)
    assert (numbers == np.arange(720)).all() and is_nan.all()


NEIGHBOURS = np.arange(64, dtype=np.float32)
NEIGHBOUR_SUMS = (NEIGHBOURS + np.roll(NEIGHBOURS, 1)).reshape(32, 2).sum(1).repeat(2)


def test_barriers_make_the_order_of_threads_invisible(primitives):
    for order in ORDERS:
        got = primitives("neighbours", [64, 1, 1], [NEIGHBOURS], order=order)[0]
        np.testing.assert_array_equal(got, NEIGHBOUR_SUMS)


@pytest.mark.parametrize("barriers", [(0, 1), (1, 0)])
def test_a_missing_barrier_shows(primitives, sanitizer, barriers):
    def runs():
        return [primitives("neighbours", [64, *barriers], [NEIGHBOURS], order=order)[0] for order in ORDERS]

    if sanitizer == "thread":
        with pytest.raises(SimulatorError, match="data race(.|\n)*neighbours"):
            runs()
    else:
        assert any((got != NEIGHBOUR_SUMS).any() for got in runs())


MISTAKES = {
    "a barrier that some threads have left": (0, r"threads 0 to 39 have exited\n.*threads 40 to 63 wait for the block"),
    "two barriers at a time": (1, r"threads diverge(.|\n)*threads 0 to 0 wait for the block at .*primitives"),
    "a shuffle without a lane": (2, r"threads 8 to 31 wait for lanes ffffffff of their warp at .*primitives"),
    "an unaligned shared address of a copy": (3, "shared address not aligned to 16 bytes; block .0, 0, 0., thread"),
    "an unaligned global address of a copy": (4, "global address not aligned to 16 bytes"),
    "a copy past shared memory": (5, "bytes 512 to 528 of 512 bytes of shared memory"),
    "an unaligned row of a matrix": (6, "shared address not aligned to 16 bytes"),
    "a row of a matrix past shared memory": (7, "bytes 512 to 528 of 512 bytes of shared memory"),
    "a shuffle outside its mask": (12, "the mask 0000ffff leaves out the calling lane"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_reported(primitives, mistake):
    number, report = MISTAKES[mistake]
    with pytest.raises(SimulatorError, match=report):
        primitives("mistakes", [number, 128], [np.zeros(128, np.float32)])


def test_writes_past_shared_memory_are_reported(primitives, sanitizer):
    report = "heap-buffer-overflow(.|\n)*primitives" if sanitizer == "address" else "write 0 bytes past the 512 bytes"
    with pytest.raises(SimulatorError, match=report):
        primitives("mistakes", [8, 128], [np.zeros(128, np.float32)])


@pytest.mark.parametrize("sanitizer", ["address"], indirect=True)
@pytest.mark.parametrize("mistake", [9, 10, 11])
def test_reads_and_writes_past_arrays_are_reported(primitives, mistake):
    with pytest.raises(SimulatorError, match="heap-buffer-overflow(.|\n)*primitives.cu"):
        primitives("mistakes", [mistake, 128], [np.zeros(128, np.float32)])


@pytest.mark.parametrize("sanitizer", ["address"], indirect=True)
def test_unaligned_vectors_are_reported(primitives):
    with pytest.raises(SimulatorError, match="misaligned address"):
        primitives("mistakes", [13, 128], [np.zeros(128, np.float32)])


@pytest.mark.parametrize("sanitizer", ["none"], indirect=True)
def test_two_blocks_that_write_one_place_show(primitives):
    start = [np.zeros(192, np.float32)]
    (forward,), (reverse,) = (primitives("mistakes", [14, 128], start, order) for order in ("forward", "reverse"))
    assert (forward != reverse).any()
