"""Faults to plant in the CUDA kernels, each of which the simulator's checks must catch (test_faults.py)."""

from dataclasses import dataclass, replace

import torch
from products import Launch
from svconv_cases import Case, NotFinite


@dataclass(frozen=True)
class Check:
    """One product on one problem, run in every order of the threads."""

    product: str
    case: Case
    layout: str
    launch: Launch


@dataclass(frozen=True)
class Fault:
    """A text of a file of csrc/cuda, found there once, and what stands in its place; `unit` is the source compiled."""

    name: str
    file: str
    text: str
    replacement: str
    unit: str
    check: Check
    sanitizer: str = "none"


# Odd sizes: every copy is of one element, of 16 bits without cp.async.
HALF = Case((1, 104, 6, 21), 5, padding_mode="renormalize", dtype=torch.float16)
# Sizes of whole vectors.
VECTORS = Case((1, 104, 6, 20), 5, dtype=torch.float16)
GROUPS = Case((1, 40, 6, 21), 5, groups=2, dtype=torch.float16)
GROUPS_OF_VECTORS = Case((1, 40, 6, 20), 5, groups=2, dtype=torch.float16)
BAND = Launch("band", columns=2, rows=1, stages=3)
SUM = Check("forward", HALF, "nchw", BAND)
SUM_OF_VECTORS = Check("forward", VECTORS, "nchw", BAND)
REVERSED = Check("grad_input", HALF, "channels_last", BAND)
GRADIENT = Check("grad_weight", HALF, "channels_last", Launch("band", 2, 1, parts=2, stages=2))
FMA_SUM_OF_VECTORS = Check("forward", Case((1, 72, 6, 20), 5), "nchw", Launch("fma", 2, 4, stages=2))
FMA_SUM = Check("forward", Case((1, 72, 6, 21), 5, padding_mode="renormalize"), "nchw", Launch("fma", 2, 4, stages=2))
FMA_GRADIENT = Check("grad_weight", Case((1, 40, 6, 21), 5), "channels_last", Launch("fma", 2, 4, stages=2))
WIDE = Case((1, 40, 14, 21), 11, dtype=torch.bfloat16)
WIDE_SUM = Check("forward", WIDE, "channels_last", Launch("band", 2, 1, stages=2))
WIDE_GRADIENT = Check("grad_weight", WIDE, "nchw", Launch("band", 2, 1, parts=2, stages=2))
WIDEST = Case((1, 40, 14, 21), 13, dtype=torch.float16)
WIDEST_SUM = Check("forward", WIDEST, "nchw", Launch("band", 2, 1, stages=2))
WIDEST_REVERSED = Check("grad_input", WIDEST, "channels_last", Launch("band", 2, 1, stages=2))
WIDEST_GRADIENT = Check("grad_weight", WIDEST, "channels_last", Launch("band", 2, 1, stages=2))
TF32_SUM = Check(
    "forward", Case((1, 104, 6, 21), 5, padding_mode="renormalize"), "nchw", Launch("tf32", 2, 1, stages=2)
)
TF32_SUM_OF_VECTORS = Check("forward", Case((1, 104, 6, 20), 5), "channels_last", Launch("tf32", 2, 1, stages=2))
TF32_GRADIENT = Check("grad_weight", Case((1, 40, 6, 21), 5), "channels_last", Launch("tf32", 2, 1, parts=2, stages=2))
TF32_GRADIENT_OF_ROWS = Check("grad_weight", Case((1, 40, 6, 20), 5), "nchw", Launch("tf32", 2, 1, parts=2, stages=2))
TF32_NOT_FINITE = Check("grad_input", NotFinite((1, 40, 6, 21), 5), "channels_last", Launch("tf32", 2, 1, stages=2))
ANY = Case((1, 6, 5, 9), 7, padding_mode="renormalize")

FAULTS = (
    Fault(
        "no barrier before a chunk is computed",
        "band_sum.h",
        "    wait_for_chunk(launch.stages);\n    __syncthreads();\n",
        "    wait_for_chunk(launch.stages);\n",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "no barrier before staging is overwritten",
        "band_sum.h",
        "      if (chunk > first) store(chunk - 1);\n      __syncthreads();\n",
        "      if (chunk > first) store(chunk - 1);\n",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "no barrier before staging is overwritten, as a race",
        "band_sum.h",
        "      if (chunk > first) store(chunk - 1);\n      __syncthreads();\n",
        "      if (chunk > first) store(chunk - 1);\n",
        "band_sum_float16.cu",
        Check("forward", Case((1, 72, 3, 12), 3, dtype=torch.float16), "nchw", BAND),
        sanitizer="thread",
    ),
    Fault(
        "no barrier before the last store",
        "band_sum.h",
        "    __syncthreads();\n    if (last > first) store(last - 1);",
        "    if (last > first) store(last - 1);",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "no barrier before the bands are built",
        "band_sum.h",
        "  cp_async_wait<1>();\n  __syncthreads();\n",
        "  cp_async_wait<1>();\n",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "a barrier that some warps skip",
        "band_sum.h",
        "    wait_for_chunk(launch.stages);\n    __syncthreads();\n",
        "    wait_for_chunk(launch.stages);\n    if (threadIdx.x >= 32) __syncthreads();\n",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "a chunk not waited for",
        "band_sum.h",
        "    wait_for_chunk(launch.stages);\n",
        "",
        "band_sum_float16.cu",
        SUM_OF_VECTORS,
    ),
    Fault(
        "a wait one group short",
        "band.h",
        "if (stages > 2) cp_async_wait<1>();",
        "if (stages > 2) cp_async_wait<2>();",
        "band_sum_float16.cu",
        SUM_OF_VECTORS,
    ),
    Fault(
        "logits not waited for",
        "band_sum.h",
        "  cp_async_wait<1>();\n",
        "  cp_async_wait<2>();\n",
        "band_sum_float16.cu",
        SUM_OF_VECTORS,
    ),
    Fault(
        "a tap column shifted by one",
        "band_weights.h",
        "const int s = q + halo + r - window_column<T>(entry);",
        "const int s = q + halo + r - window_column<T>(entry) + 1;",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "tap rows of a correlation",
        "band_sum.h",
        "const int t = i + K - 1 - line;",
        "const int t = line - i;",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "the right edge off by one",
        "copy.h",
        "x >= 0 && x < image.width;",
        "x >= 0 && x <= image.width;",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "the right edge off by one in renormalize alone",
        "band_weights.h",
        "x + q - (s - r) >= image.width)",
        "x + q - (s - r) > image.width)",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "columns of the B fragment in another lane",
        "band_weights.h",
        "2 * (threadIdx.x % 4) + entry % 2",
        "(threadIdx.x % 4) + 4 * (entry % 2)",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "two matrices of the A fragment exchanged",
        "band_fragments.h",
        "window = matrix_row(order, row, column, 0, matrix / 2, matrix % 2);",
        "window = matrix_row(order, row, column, 0, matrix % 2, matrix / 2);",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "halves of a packed result exchanged",
        "band_sum.h",
        "{pack2<T>(sum[i][0], sum[i][1])",
        "{pack2<T>(sum[i][1], sum[i][0])",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "a softmax that leaves out lanes",
        "band_weights.h",
        "sum += __shfl_xor_sync(0xffffffffu, sum, 2);",
        "sum += __shfl_xor_sync(0xffffffffu, sum, 4);",
        "band_sum_float16.cu",
        SUM,
    ),
    Fault(
        "channels of the next group overwritten",
        "band.h",
        "inside(image, y + i, x + j) && channel + c < depth);",
        "inside(image, y + i, x + j));",
        "band_sum_float16.cu",
        Check("forward", GROUPS, "nchw", BAND),
    ),
    Fault(
        "a tail of channels not masked",
        "band.h",
        "inside(image, y + i, x + j) && channel + c < depth);",
        "inside(image, y + i, x + j));",
        "band_gradient_float16.cu",
        Check("grad_weight", GROUPS, "nchw", Launch("band", 2, 1, stages=2)),
    ),
    Fault(
        "a tail of vectors of channels not masked",
        "band.h",
        "inside_columns(n) : channel + n < depth)",
        "inside_columns(n) : true)",
        "band_gradient_float16.cu",
        Check("grad_weight", GROUPS_OF_VECTORS, "nchw", Launch("band", 2, 1, stages=2)),
    ),
    Fault(
        "steps through a chunk that forget its swizzle",
        "band.h",
        "else return (offset ^ (swizzle(lines) * kLanes)) + lines * columns;",
        "else return offset + lines * columns;",
        "band_sum_float16.cu",
        Check("forward", VECTORS, "nchw", Launch("band", 4, 1, stages=3)),
    ),
    Fault(
        "a tap of grad_input shifted by one",
        "band_weights.h",
        "s = k - halo - q + r;",
        "s = k - halo - q + r - 1;",
        "band_sum_float16.cu",
        REVERSED,
    ),
    Fault(
        "a row of the log-sum-exp off by one",
        "band_weights.h",
        "lse[(i + K - 1 - t) * columns + k]",
        "lse[(i + K - t) * columns + k]",
        "band_sum_float16.cu",
        REVERSED,
    ),
    Fault(
        "no barrier before the parts of a sum are added",
        "band_gradient.h",
        "  cp_async_wait<0>();\n  __syncthreads();\n  if (launch.parts > 1) {",
        "  cp_async_wait<0>();\n  if (launch.parts > 1) {",
        "band_gradient_float16.cu",
        GRADIENT,
    ),
    Fault(
        "no barrier after the parts of a sum are added",
        "band_gradient.h",
        "dw[part * part_sums + i];\n    __syncthreads();\n",
        "dw[part * part_sums + i];\n",
        "band_gradient_float16.cu",
        GRADIENT,
    ),
    Fault(
        "sums over a chunk that is still read",
        "band_gradient.h",
        "  __syncthreads();\n\n",
        "\n",
        "band_gradient_float16.cu",
        GRADIENT,
    ),
    Fault(
        "a part of a sum dropped",
        "band_gradient.h",
        "for (int part = 1; part < launch.parts; ++part) dw[i]",
        "for (int part = 2; part < launch.parts; ++part) dw[i]",
        "band_gradient_float16.cu",
        GRADIENT,
    ),
    Fault(
        "no barrier before gradients are stored",
        "band_gradient.h",
        "tile.y, tile.x);\n    __syncthreads();\n",
        "tile.y, tile.x);\n",
        "band_gradient_float16.cu",
        GRADIENT,
    ),
    Fault(
        "columns 16 to 23 of the window from 8 too few on",
        "band_fragments.h",
        "a.right, from + sixteen_columns<Order>()",
        "a.right, from + sixteen_columns<Order>() / 2",
        "band_sum_bfloat16.cu",
        WIDE_SUM,
    ),
    Fault(
        "a tap row of the wrong row of pixels",
        "band_fragments.h",
        "sum_[i + K - 1 - t][block][entry]",
        "sum_[K - 1 - t][block][entry]",
        "band_gradient_bfloat16.cu",
        WIDE_GRADIENT,
    ),
    Fault(
        "rows and channels of a gradient's A fragment exchanged",
        "band_fragments.h",
        "own, row + matrix % 2, column, 0, 0, matrix / 2",
        "own, row + matrix / 2, column, 0, 0, matrix % 2",
        "band_gradient_bfloat16.cu",
        WIDE_GRADIENT,
    ),
    Fault(
        "logits beside the tile left out in grad_input too",
        "band_sum.h",
        "reversed ? 0 : halo);",
        "halo);",
        "band_sum_float16.cu",
        REVERSED,
    ),
    Fault(
        "the last tap row of K = 13 left out",
        "band_sum.h",
        "if (t >= 0 && t < K) Fragments::multiply(sum[i]",
        "if (t >= 0 && t < 12) Fragments::multiply(sum[i]",
        "band_sum_float16.cu",
        WIDEST_SUM,
    ),
    Fault(
        "another tile behind the bands of K = 13 than before",
        "band_sum.h",
        "rows = anew(launch.rows, 0), columns = anew(launch.columns, 0);",
        "rows = anew(launch.columns, 0), columns = anew(launch.rows, 0);",
        "band_sum_float16.cu",
        WIDEST_SUM,
    ),
    Fault(
        "the first and last tap column of K = 13 left out",
        "band_weights.h",
        "s = k - halo - q + r;\n      const bool valid = s >= 0 && s < K;",
        "s = k - halo - q + r;\n      const bool valid = s >= 1 && s < 12;",
        "band_sum_float16.cu",
        WIDEST_REVERSED,
    ),
    Fault(
        "the last line of two rows of K = 13 left out",
        "band_fragments.h",
        "line < kLines; ++line",
        "line < kLines - 1; ++line",
        "band_gradient_float16.cu",
        WIDEST_GRADIENT,
    ),
    Fault(
        "the log-sum-exp of a dilated row where an undilated one lies",
        "band_weights.h",
        "own_lse[i * p.width * p.dilation]",
        "own_lse[i * p.width]",
        "band_sum_float16.cu",
        Check("forward", replace(WIDEST, dilation=2), "nchw", Launch("band", 2, 1, stages=2)),
    ),
    Fault(
        "the log-sum-exp past the right edge",
        "band_weights.h",
        "threadIdx.x % 4 == 0 && x + q < image.width) own_lse",
        "threadIdx.x % 4 == 0) own_lse",
        "band_sum_float16.cu",
        WIDEST_SUM,
    ),
    Fault(
        "no barrier before a chunk of float32 is computed in tf32",
        "band_sum.h",
        "    wait_for_chunk(launch.stages);\n    __syncthreads();\n",
        "    wait_for_chunk(launch.stages);\n",
        "band_sum_tf32.cu",
        TF32_SUM,
    ),
    Fault(
        "columns of the B fragment of tf32 in another lane",
        "band_weights.h",
        "return 4 * (threadIdx.x % 4) + entry;",
        "return threadIdx.x % 4 + 4 * entry;",
        "band_sum_tf32.cu",
        TF32_SUM,
    ),
    Fault(
        "rows and columns of the A fragment of tf32 exchanged",
        "band_fragments.h",
        "read[2 * tile + n % 2][2 * half + n / 2]",
        "read[2 * tile + n / 2][2 * half + n % 2]",
        "band_sum_tf32.cu",
        TF32_SUM,
    ),
    Fault(
        "steps of a tf32 product exchanged in B alone",
        "band_fragments.h",
        "{band[2 * half], band[2 * half + 1]}",
        "{band[2 - 2 * half], band[3 - 2 * half]}",
        "band_sum_tf32.cu",
        TF32_SUM_OF_VECTORS,
    ),
    Fault(
        "a channel in two lanes, another in none",
        "band_fragments.h",
        "8 * j + (g & 4) + g % 2 * 2 + g / 2 % 2",
        "8 * j + (g & 4) + g % 2 * 2",
        "band_sum_tf32.cu",
        TF32_SUM,
    ),
    Fault(
        "a swizzle that changes within what a lane reads",
        "band.h",
        "line / 4 % 4 * 2",
        "line / 2 % 4 * 2",
        "band_sum_tf32.cu",
        TF32_SUM_OF_VECTORS,
    ),
    Fault(
        "channels of a stored vector exchanged",
        "band_sum.h",
        "make_float4(sum[0][p], sum[0][2 + p],",
        "make_float4(sum[0][2 + p], sum[0][p],",
        "band_sum_tf32.cu",
        TF32_SUM_OF_VECTORS,
    ),
    Fault(
        "a pixel stored past the right edge",
        "band_sum.h",
        "      if (column + 1 < image.width) *to.at",
        "      *to.at",
        "band_sum_tf32.cu",
        TF32_SUM,
    ),
    Fault(
        "a tail of channels stored in tf32",
        "band_sum.h",
        "if (own >= depth || column >= image.width) continue;",
        "if (column >= image.width) continue;",
        "band_sum_tf32.cu",
        Check("forward", Case((1, 40, 6, 21), 5, groups=2), "nchw", Launch("tf32", 2, 1, stages=2)),
    ),
    Fault(
        "NaN rounded to zero",
        "numbers.h",
        "return fabsf(x) < float(INFINITY) ? bits + 0x1000 : bits;",
        "return bits + 0x1000;",
        "band_sum_tf32.cu",
        TF32_NOT_FINITE,
    ),
    Fault(
        "columns of a gradient's A fragment exchanged",
        "band_fragments.h",
        "a[1] = tf32_operand(kChannelsInside ? second.x : first.y);",
        "a[1] = tf32_operand(kChannelsInside ? first.y : second.x);",
        "band_gradient_tf32.cu",
        TF32_GRADIENT,
    ),
    Fault(
        "a gradient's D fragment read as in 16-bit types",
        "band_fragments.h",
        "return kChannelsInside ? g + entry / 2 * 8 : 2 * g + entry / 2;",
        "return g + entry / 2 * 8;",
        "band_gradient_tf32.cu",
        TF32_GRADIENT_OF_ROWS,
    ),
    Fault(
        "sums of a gradient exchanged, but not their places",
        "band_fragments.h",
        "Fragments::column(exchanged ? entry ^ 2 : entry)",
        "Fragments::column(entry)",
        "band_gradient_tf32.cu",
        TF32_GRADIENT_OF_ROWS,
    ),
    Fault(
        "channels of a gradient's B fragment not those of A",
        "band_fragments.h",
        "own.at(row, column + g, kChannelsInside ? 2 * t : t)",
        "own.at(row, column + g, t)",
        "band_gradient_tf32.cu",
        TF32_GRADIENT,
    ),
    Fault(
        "a part of a chunk's channels left out in tf32",
        "band_gradient.h",
        "int step = own_part * Sums::kStep; step < kChunk;",
        "int step = own_part * Sums::kStep; step < kChunk / 2;",
        "band_gradient_tf32.cu",
        TF32_GRADIENT_OF_ROWS,
    ),
    Fault(
        "no barrier after the wait for a chunk",
        "fma.h",
        "  else cp_async_wait<0>();\n  __syncthreads();\n",
        "  else cp_async_wait<0>();\n",
        "fma_sum.cu",
        FMA_SUM,
    ),
    Fault(
        "no barrier before a chunk is overwritten",
        "fma.h",
        "  __syncthreads();\n  load(chunk + stages - 1);",
        "  load(chunk + stages - 1);",
        "fma_sum.cu",
        FMA_SUM,
    ),
    Fault(
        "a window shifted by one",
        "fma_sum.cu",
        "window[q + kHalo + r - s]",
        "window[q + kHalo + r - s - 1]",
        "fma_sum.cu",
        FMA_SUM,
    ),
    Fault(
        "a vector stored past the right edge",
        "fma_sum.cu",
        "if (inside(image, y, x + q) && channel < depth) *to.at",
        "if (y < image.height && channel < depth) *to.at",
        "fma_sum.cu",
        FMA_SUM,
    ),
    Fault(
        "halves of a run of another channel",
        "fma_sum.cu",
        "odd ? run[i] : run[4 + i], 1)",
        "odd ? run[4 + i] : run[i], 1)",
        "fma_sum.cu",
        FMA_SUM_OF_VECTORS,
    ),
    Fault(
        "sums of float32 written where they are not read",
        "fma_gradient.cu",
        "memory.sums.at(row, column + q)",
        "row * tile.columns + column + q",
        "fma_gradient.cu",
        FMA_GRADIENT,
    ),
    Fault(
        "taps of float32 not waited for",
        "fma_gradient.cu",
        "  cp_async_wait<0>();\n  __syncthreads();\n  if (p.normalize) {",
        "  __syncthreads();\n  if (p.normalize) {",
        "fma_gradient.cu",
        FMA_GRADIENT,
    ),
    Fault(
        "an inactive thread that leaves before a barrier",
        "fma_gradient.cu",
        "    if (!active) continue;",
        "    if (!active) return;",
        "fma_gradient.cu",
        FMA_GRADIENT,
    ),
    Fault(
        "the right edge of the generic kernel off by one",
        "generic.cu",
        "x >= 0 && x < p.width;",
        "x >= 0 && x <= p.width;",
        "generic.cu",
        Check("forward", ANY, "nchw", Launch("generic")),
    ),
    Fault(
        "a reduction over half a warp",
        "generic.cu",
        "for (int step = 16; step > 0; step /= 2)",
        "for (int step = 8; step > 0; step /= 2)",
        "generic.cu",
        Check("grad_weight", ANY, "nchw", Launch("generic")),
    ),
    Fault(
        "the log-sum-exp of one pixel too many",
        "generic.cu",
        "start_kernel(log_sum_exp<T>, blocks, dim3(kThreads), 0, stream, p, pixels)",
        "start_kernel(log_sum_exp<T>, blocks, dim3(kThreads), 0, stream, p, pixels + 1)",
        "generic.cu",
        Check("forward", ANY, "nchw", Launch("generic")),
        sanitizer="address",
    ),
)
