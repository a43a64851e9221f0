"""Four float64 side by side as one numba type, so that a kernel works on four pixels at a time.

numba leaves it to LLVM to find loops that can be done by vectors, and LLVM gives up on loops as long as a pixel's.
Here the vectors are written down: `Lanes` holds four numbers, `Mask` four truths, and the operators mean all four at
once. LLVM turns them into whatever the processor has (one AVX register, two of NEON).
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

WIDTH = 4
# Rounding may differ from the order in which sums are written down; infinities and NaN keep their meaning.
_FLAGS = ("contract", "arcp", "nsz", "reassoc")
_NUMBERS = ir.VectorType(ir.DoubleType(), WIDTH)
_TRUTHS = ir.VectorType(ir.IntType(1), WIDTH)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


class _MaskType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Mask")


LANES, MASK = _LanesType(), _MaskType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _NUMBERS)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _TRUTHS)


def _spread(builder: Any, value: Any) -> Any:
    """Return a vector of one number, four times."""
    if value.type == _NUMBERS:
        return value
    single = builder.insert_element(
        ir.Constant(_NUMBERS, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(single, single, zeros)


def _register(operation: Any, build: Any, result: Any) -> None:
    """Let an operator take lanes on either side, and a single number on the other."""

    @type_callable(operation)
    def typed(context: Any) -> Any:
        def of(a: Any, b: Any) -> Any:
            known = all(isinstance(one, _LanesType | types.Number) for one in (a, b))
            return result if known and LANES in (a, b) else None

        return of

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        pair = [
            _vector(context, builder, value, kind) for value, kind in zip(given, signature.args, strict=True)
        ]
        return build(builder, *pair)

    for pair in ((LANES, LANES), (LANES, types.Number), (types.Number, LANES)):
        lower_builtin(operation, *pair)(code)


def _vector(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    return value if kind == LANES else _spread(builder, context.cast(builder, value, kind, types.float64))


def _arithmetic(name: str) -> Any:
    return lambda builder, a, b: getattr(builder, name)(a, b, flags=_FLAGS)


def _comparison(sign: str) -> Any:
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


for _operation, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register(_operation, _arithmetic(_name), LANES)
for _operation, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _register(_operation, _comparison(_sign), MASK)


@intrinsic
def both(typing: Any, a: Any, b: Any) -> Any:
    """Return where both masks are true."""
    return MASK(MASK, MASK), lambda context, builder, signature, given: builder.and_(*given)


@intrinsic
def but_not(typing: Any, a: Any, b: Any) -> Any:
    """Return where the first mask is true and the second is not."""
    return MASK(MASK, MASK), lambda context, builder, signature, given: builder.and_(
        given[0], builder.not_(given[1])
    )


@intrinsic
def any_of(typing: Any, a: Any) -> Any:
    """Return whether a mask is true anywhere."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        bits = builder.bitcast(given[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(MASK), code


@intrinsic
def where(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """Return the lanes of `a` where the mask is true, those of `b` elsewhere; either may be a single number."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        chosen = [
            value if kind == LANES else context.cast(builder, value, kind, types.float64)
            for value, kind in zip(given[1:], signature.args[1:], strict=True)
        ]
        return builder.select(given[0], *(_spread(builder, one) for one in chosen))

    return LANES(MASK, a, b), code


@intrinsic
def lanes(typing: Any, value: Any) -> Any:
    """Return a number four times."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _spread(builder, context.cast(builder, given[0], signature.args[0], types.float64))

    return LANES(value), code


@intrinsic
def ramp(typing: Any, value: Any) -> Any:
    """Return a number and the three that follow it by steps of one."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        first = _spread(builder, context.cast(builder, given[0], signature.args[0], types.float64))
        return builder.fadd(
            first, ir.Constant(_NUMBERS, [float(lane) for lane in range(WIDTH)]), flags=_FLAGS
        )

    return LANES(value), code


@intrinsic
def load(typing: Any, array: Any, row: Any, plane: Any, column: Any) -> Any:
    """Return four neighbours of a float64 array's last axis."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, given), align=8)

    return LANES(array, row, plane, column), code


@intrinsic
def store(typing: Any, array: Any, row: Any, plane: Any, column: Any, value: Any) -> Any:
    """Write four neighbours of a float64 array's last axis."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.store(given[4], _pointer(context, builder, signature, given), align=8)
        return context.get_dummy_value()

    return types.none(array, row, plane, column, LANES), code


def _pointer(context: Any, builder: Any, signature: Any, given: Any) -> Any:
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, given[0])
    at = [
        context.cast(builder, value, one, types.intp)
        for value, one in zip(given[1:4], signature.args[1:4], strict=True)
    ]
    place = cgutils.get_item_pointer(context, builder, kind, array, at, wraparound=False)
    return builder.bitcast(place, _NUMBERS.as_pointer())


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """Return the sum of the four lanes."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        first, *others = (
            builder.extract_element(given[0], ir.Constant(ir.IntType(32), lane)) for lane in range(WIDTH)
        )
        for one in others:
            first = builder.fadd(first, one, flags=_FLAGS)
        return first

    return types.float64(LANES), code


@intrinsic
def add(typing: Any, array: Any, row: Any, plane: Any, column: Any, value: Any) -> Any:
    """Add to four neighbours of a float64 array's last axis."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = _pointer(context, builder, signature, given)
        builder.store(builder.fadd(builder.load(place, align=8), given[4], flags=_FLAGS), place, align=8)
        return context.get_dummy_value()

    return types.none(array, row, plane, column, LANES), code
