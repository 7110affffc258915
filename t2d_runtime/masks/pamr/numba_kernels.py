"""The inner loops of PAMR, compiled by numba; see `t2d_runtime.masks.pamr.refine.Kernels`.

A block of LANES pixels of a row stays in registers while all its neighbours are gone through. numba makes no such code
of loops (benchmarks/LOG.md), so blocks are written in LLVM's own terms: a vector of LANES numbers is one register of
512 bits or several smaller ones, as the processor has them. The compiled code is kept on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from t2d_runtime.masks.pamr.refine import LANES, STD_EPS, STD_WEIGHT

logger = logging.getLogger(__name__)

name = "numba"

Function = TypeVar("Function", bound=Callable[..., None])
Floats = NDArray[np.float32]

CHANNELS = 3
FLOAT_BYTES = 4

VECTOR = ir.VectorType(ir.FloatType(), LANES)
INTEGER = ir.IntType(64)

Build = Callable[[ir.IRBuilder, list[ir.Value]], None]
Intrinsic = tuple[Any, Callable[..., ir.Value]]

_intrinsic = cast(Callable[[Callable[..., Intrinsic]], Callable[..., None]], intrinsic)
"""numba's own annotations count the context among the arguments of a call."""


def _compiled(function: Function) -> Function:
    """Compiled at the first call, or read from the cache."""
    compiled: Function
    try:
        compiled = numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError as error:  # neither this folder nor the user's can be written to
        logger.warning("PAMR is compiled anew in each process: %s; set NUMBA_CACHE_DIR to a folder", error)
        compiled = numba.njit(function, nogil=True, error_model="numpy")
    return compiled


def _of_integers(count: int, build: Build) -> Intrinsic:
    """Signature and code generator of an intrinsic that takes so many integers and returns nothing."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: list[ir.Value]) -> ir.Value:
        build(builder, arguments)
        return context.get_dummy_value()

    return types.void(*[types.intp] * count), generate


def _sums_of_planes(planes: int) -> Build:
    """LLVM code of `sums_of_block` for some planes, `plane_bytes` apart, that share the loads of their weights."""

    def build(builder: ir.IRBuilder, arguments: list[ir.Value]) -> None:
        source, target, plane_bytes, weights, weight_bytes, steps, count = arguments
        sums = _zeros(builder, planes)
        with cgutils.for_range(builder, count) as loop:
            at = builder.add(weights, builder.mul(loop.index, weight_bytes))
            weight, neighbour = _load(builder, at), builder.add(source, _integer(builder, steps, loop.index))
            # The same neighbour's weight in the next row; the processor sees no order in so many rows by itself.
            _prefetch(builder, builder.add(at, builder.mul(count, weight_bytes)))
            for plane, total in enumerate(sums):
                value = _load(builder, _moved(builder, neighbour, plane, plane_bytes))
                _add_product(builder, total, weight, value)
        for plane, total in enumerate(sums):
            _store(builder, builder.load(total), _moved(builder, target, plane, plane_bytes))

    return build


@_intrinsic
def sums_of_block(
    _context: Any, source: Any, target: Any, plane_bytes: Any, weights: Any, weight_bytes: Any, steps: Any, count: Any
) -> Intrinsic:
    """Write to `target` the weighted sum of the neighbours of the pixels at `source`.

    There are `count` neighbours, `steps` (int64) away from `source`; the weights of one for all pixels of a row follow
    the last one's after `weight_bytes`.
    """
    return _of_integers(7, _sums_of_planes(1))


@_intrinsic
def sums_of_four_blocks(
    _context: Any, source: Any, target: Any, plane_bytes: Any, weights: Any, weight_bytes: Any, steps: Any, count: Any
) -> Intrinsic:
    """As `sums_of_block` for four planes, `plane_bytes` apart, that share the loads of their weights."""
    return _of_integers(7, _sums_of_planes(4))


@_intrinsic
def logits_of_block(
    _context: Any, source: Any, channel_bytes: Any, steps: Any, count: Any, logits: Any, logit_bytes: Any
) -> Intrinsic:
    """Write minus the mean over channels of |I - I_neighbour| / (1e-8 + 0.1 std), for each neighbour.

    The neighbours of the pixels at `source` are as in `sums_of_block`, their logits `logit_bytes` apart.
    """
    return _of_integers(6, _logits)


def _logits(builder: ir.IRBuilder, arguments: list[ir.Value]) -> None:
    source, channel_bytes, steps, count, logits, logit_bytes = arguments
    centres = [_load(builder, _moved(builder, source, channel, channel_bytes)) for channel in range(CHANNELS)]

    def differences(index: ir.Value) -> list[ir.Value]:
        neighbour = builder.add(source, _integer(builder, steps, index))
        values = [_load(builder, _moved(builder, neighbour, channel, channel_bytes)) for channel in range(CHANNELS)]
        return [builder.fsub(value, centre) for value, centre in zip(values, centres, strict=True)]

    totals, squares = _zeros(builder, CHANNELS), _zeros(builder, CHANNELS)
    with cgutils.for_range(builder, count) as loop:
        for difference, total, square in zip(differences(loop.index), totals, squares, strict=True):
            builder.store(builder.fadd(builder.load(total), difference), total)
            _add_product(builder, square, difference, difference)
    scales = [_scale(builder, builder.load(t), builder.load(s), count) for t, s in zip(totals, squares, strict=True)]
    with cgutils.for_range(builder, count) as loop:
        (logit,) = _zeros(builder, 1)
        for difference, scale in zip(differences(loop.index), scales, strict=True):
            _add_product(builder, logit, _call(builder, "fabs", difference), scale)
        _store(builder, builder.load(logit), builder.add(logits, builder.mul(loop.index, logit_bytes)))


def _scale(builder: ir.IRBuilder, total: ir.Value, square: ir.Value, count: ir.Value) -> ir.Value:
    """-1 / (3 (1e-8 + 0.1 std)), of the sum of the differences and of their squares."""
    samples = builder.sdiv(builder.mul(count, INTEGER(9)), INTEGER(8))  # with the pixel itself once per dilation
    one_less = builder.sub(samples, INTEGER(1))
    mean_square = builder.fdiv(builder.fmul(total, total), _vector(builder, samples))
    variance = builder.fdiv(builder.fsub(square, mean_square), _vector(builder, one_less))
    zero = _constant(0)
    variance = builder.select(builder.fcmp_ordered(">", variance, zero), variance, zero)
    deviation = builder.fmul(_constant(STD_WEIGHT), _call(builder, "sqrt", variance))
    whole = builder.fmul(_constant(-CHANNELS), builder.fadd(_constant(STD_EPS), deviation))
    return builder.fdiv(_constant(1), whole)


def _zeros(builder: ir.IRBuilder, count: int) -> list[ir.Value]:
    """Sums that start at zero."""
    return [cgutils.alloca_once_value(builder, _constant(0)) for _ in range(count)]  # type: ignore[no-untyped-call]


def _add_product(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> None:
    """Add a * b to a sum, rounded once where the processor can."""
    once = ("contract",)
    builder.store(builder.fadd(builder.load(total), builder.fmul(a, b, flags=once), flags=once), total)


def _moved(builder: ir.IRBuilder, address: ir.Value, number: int, distance: ir.Value) -> ir.Value:
    return builder.add(address, builder.mul(distance, INTEGER(number)))


def _integer(builder: ir.IRBuilder, array: ir.Value, index: ir.Value) -> ir.Value:
    return builder.load(builder.gep(builder.inttoptr(array, INTEGER.as_pointer()), [index]))


def _load(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    vector = builder.load(builder.inttoptr(address, VECTOR.as_pointer()))
    vector.align = FLOAT_BYTES
    return vector


def _store(builder: ir.IRBuilder, vector: ir.Value, address: ir.Value) -> None:
    builder.store(vector, builder.inttoptr(address, VECTOR.as_pointer())).align = FLOAT_BYTES


def _constant(value: float) -> ir.Value:
    return ir.Constant(VECTOR, [value] * LANES)


def _vector(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """An integer in all lanes."""
    single = builder.sitofp(number, ir.FloatType())
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), single, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, first, lanes)


def _call(builder: ir.IRBuilder, name: str, vector: ir.Value) -> ir.Value:
    """An LLVM intrinsic of one vector."""
    kind = ir.FunctionType(VECTOR, [VECTOR])
    return builder.call(builder.module.declare_intrinsic(f"llvm.{name}.v{LANES}f32", fnty=kind), [vector])


def _prefetch(builder: ir.IRBuilder, address: ir.Value) -> None:
    """Ask for what will be read soon; an address outside of the array does no harm."""
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
    reading, second_level, data = number(0), number(2), number(1)
    builder.call(function, [builder.inttoptr(address, pointer), reading, second_level, data])


@_compiled
def write_logits(padded: Floats, offsets: NDArray[np.intp], logits: Floats, first: int, last: int) -> None:
    """As `refine_numpy.write_logits`."""
    border, (channel_bytes, row_bytes, pixel_bytes) = offsets.max(), padded.strides
    steps = offsets[:, 0] * row_bytes + offsets[:, 1] * pixel_bytes
    for y in range(first, last):
        for x in range(0, logits.shape[2], LANES):
            logits_of_block(
                padded.ctypes.data + (border + y) * row_bytes + (border + x) * pixel_bytes,
                channel_bytes,
                steps.ctypes.data,
                len(steps),
                logits.ctypes.data + y * logits.strides[0] + x * pixel_bytes,
                logits.strides[1],
            )


@_compiled
def spread(source: Floats, weights: Floats, offsets: NDArray[np.intp], target: Floats, first: int, last: int) -> None:
    """As `refine_numpy.spread`."""
    border, (plane_bytes, row_bytes, pixel_bytes) = offsets.max(), source.strides
    steps = offsets[:, 0] * row_bytes + offsets[:, 1] * pixel_bytes
    for y in range(first, last):
        weights_of_row = weights.ctypes.data + y * weights.strides[0]
        n = 0
        while n < len(source):
            place = n * plane_bytes + (border + y) * row_bytes + border * pixel_bytes
            fours = n + 4 <= len(source)
            for x in range(0, weights.shape[2] * pixel_bytes, LANES * pixel_bytes):
                block = (
                    source.ctypes.data + place + x,
                    target.ctypes.data + place + x,
                    plane_bytes,
                    weights_of_row + x,
                    weights.strides[1],
                    steps.ctypes.data,
                    len(steps),
                )
                if fours:
                    sums_of_four_blocks(*block)
                else:
                    sums_of_block(*block)
            n += 4 if fours else 1
