"""Instructions of TensorE: a systolic array of 128 by 128, a stationary and a moving operand, PSUM behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trainshed.chip.call import ON_CHIP, PSUM, SBUF, Array, Call, array
from trainshed.chip.findings import note
from trainshed.chip.indirect import addresses_of, flat_values, free, scalar
from trainshed.chip.isa.quantize import scale_view
from trainshed.chip.memory import View, mark, missing, window
from trainshed.chip.operands import flat
from trainshed.chip.record import Instruction
from trainshed.chip.tensor import NkiTensor
from trainshed.chip.undefined import elements, of_product, tainted
from trainshed.chip.waiting import Operand, waiting_for
from trainshed.chip.words import MemoryRegion, engine, matmul_perf_mode, nc_version
from trainshed.numerics.cast import to_float32
from trainshed.numerics.formats import DTYPES, DType
from trainshed.numerics.gemm import product
from trainshed.numerics.mx import dequantise

_engine = engine
WIDE = ("float32", "tfloat32")
FP8 = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")
INPUTS = (*FP8, "bfloat16", "float16", *WIDE)
MX = ("float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4")


def _check_dtypes(call: Call, stationary: NkiTensor, moving: NkiTensor, double: bool, transpose: bool) -> None:
    """Which formats multiply, alone and together. Source: ``nki.isa.nc_matmul``, "Data types"."""
    pair = str(stationary.dtype), str(moving.dtype)
    for operand, kind in zip(("stationary", "moving"), pair, strict=True):
        if kind not in INPUTS:
            raise call.fail(operand, "dtype", kind, " or ".join(INPUTS), "matmul-dtype")
        if kind == "float8_e4m3fn":
            call.generation(nc_version.gen4)
        if double and kind not in FP8:
            raise call.fail(operand, "dtype under double_row", kind, " or ".join(FP8), "matmul-dtype")
    if transpose:
        return
    if (pair[0] in WIDE) != (pair[1] in WIDE):
        raise call.fail("moving", "dtype", pair[1], f"float32 or tfloat32 together, with {pair[0]}", "matmul-dtype")
    if {"float8_e4m3", "float8_e4m3fn"} == set(pair):
        raise call.fail("moving", "dtype", pair[1], f"not mixed with {pair[0]}", "matmul-dtype")


def _turns_into(data: NkiTensor, dst: NkiTensor) -> bool:
    """Whether a transpose of ``data`` may land in ``dst``: elements as wide, or 8-bit floats in 16 bits of PSUM."""
    return dst.itemsize == data.itemsize or (str(data.dtype) in FP8 and dst.itemsize == 2)


def _check_output(call: Call, dst: NkiTensor, rows: int, columns: int, transpose: bool, like: NkiTensor) -> None:
    """Shape, dtype and banks of a product in PSUM. Source: ``nki.isa.nc_matmul``, "Tile size"."""
    if dst.shape[0] != rows or dst.free_size != columns:
        raise call.fail("dst", "shape", dst.shape, f"({rows}, {columns})", "shape")
    kind = str(dst.dtype)
    if transpose:
        call.require(_turns_into(like, dst) or kind == "float32", "dst", "dtype of a transpose", kind,
                     f"{like.dtype}, as the data", "dtype")  # fmt: skip
    elif kind != "float32" and not (kind == "bfloat16" and call.version >= nc_version.gen4):
        good = "float32 or bfloat16" if call.version >= nc_version.gen4 else "float32"
        raise call.fail("dst", "dtype", kind, good, "matmul-dtype")
    bank = call.core.target.psum_bank
    if call.version < nc_version.gen4:
        limit = bank // 4
        call.require(columns <= limit, "moving", "free size", columns, f"at most {limit}: one PSUM bank", "matmul-size")
        last = dst.offset % dst.row + sum((n - 1) * s for n, s in zip(dst.shape[1:], dst.strides[1:], strict=True))
        start = dst.storage.address[1] if dst.storage.address else 0
        banks = (start + dst.offset % dst.row * dst.itemsize) // bank, (start + last * dst.itemsize) // bank
        call.require(banks[0] == banks[1], "dst", "PSUM banks", banks, "one bank", "psum-bank")
    else:
        limit = call.core.target.psum_row // dst.itemsize
        call.require(columns <= limit, "moving", "free size", columns, f"at most {limit}: all of PSUM", "matmul-size")


def _double_row(call: Call, mode: Any) -> bool:
    """Whether ``perf_mode`` is double_row: a member of the enumeration or, as kernels of NKI 0.3 have it, its value."""
    value = getattr(mode, "value", mode)
    if value in (None, "none"):
        return False
    if value not in ("double_row", "double_row_gen3"):
        raise call.fail("perf_mode", "mode", mode, "none or double_row", "perf-mode")
    return True


def _check_tile(call: Call, position: Any, size: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """``tile_position`` and ``tile_size``. Source: ``nki.isa.nc_matmul``, "Tiling mode"."""
    if not position and not size:
        return (0, 0), (128, 128)
    if not position or not size:
        raise call.fail("tile_position, tile_size", "tiling", (position, size), "both, or neither", "matmul-tile")
    position, size = tuple(int(x) for x in position), tuple(int(x) for x in size)
    least = 32 if call.version >= nc_version.gen3 else 64
    for which, start, extent, used in zip(("row", "column"), position, size, (rows, columns), strict=True):
        if extent not in (least, 64, 128):
            raise call.fail("tile_size", f"{which} size", extent, f"{least}, 64 or 128", "matmul-tile")
        if start % extent or start + extent > 128:
            raise call.fail(
                "tile_position", f"start {which}", start, f"a multiple of {extent} below 128", "matmul-tile"
            )
        if used > extent:
            raise call.fail("stationary", f"{which}s of the array", used, f"at most tile_size {extent}", "matmul-tile")
    return position, size


def _no_tiling(call: Call, position: tuple[int, int], *tensors: NkiTensor) -> None:
    """Tensor indirection needs the whole array."""
    if any(item.is_indirect() for item in tensors):
        call.require(
            position == (0, 0), "tile_position", "tiling of indirect operands", position, "(0, 0)", "matmul-tile"
        )


class _Plan(NamedTuple):
    """What a matmul does, by the looks of its operands."""

    rows: int
    columns: int
    depth: int
    """Terms of a sum."""
    double: bool
    position: tuple[int, int]
    size: tuple[int, int]


def _plan(
    call: Call, dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor, is_transpose: bool, perf_mode: Any,
    tile_position: Sequence[int], tile_size: Sequence[int],
) -> _Plan:  # fmt: skip
    """The rules of ``nc_matmul``."""
    for operand, tensor, place in (("stationary", stationary, SBUF), ("moving", moving, SBUF), ("dst", dst, PSUM)):
        call.tile(operand, tensor, place)
    double = _double_row(call, perf_mode)
    if double:
        call.generation(nc_version.gen3)
        call.require(not is_transpose, "is_transpose", "transpose mode", True, "off under double_row", "perf-mode")
        for operand, tensor in (("stationary", stationary), ("moving", moving)):
            if tensor.ndim < 3 or tensor.shape[1] != 2:
                raise call.fail(operand, "shape under double_row", tensor.shape, "[K, 2, …]", "matmul-size")
    depth = stationary.shape[0]
    call.require(moving.shape[0] == depth, "moving", "partitions", moving.shape[0], f"{depth}, as stationary", "shape")
    rows = stationary.free_size // (2 if double else 1)
    columns = moving.free_size // (2 if double else 1)
    call.require(rows <= 128, "stationary", "free size", rows, "at most 128", "matmul-size")
    _check_dtypes(call, stationary, moving, double, is_transpose)
    _check_output(call, dst, rows, columns, is_transpose, stationary)
    position, size = _check_tile(call, tile_position, tile_size, depth, rows)
    if double and size[1] != 128:
        raise call.fail("tile_size", "column tiling under double_row", size, "128 columns", "matmul-tile")
    _no_tiling(call, position, stationary, moving, dst)
    return _Plan(rows, columns, depth * (2 if double else 1), double, position, size)


def nc_matmul(
    dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor, is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False, is_transpose: bool = False, accumulate: bool | None = None,
    tile_position: Sequence[int] = (), tile_size: Sequence[int] = (),
    perf_mode: matmul_perf_mode = matmul_perf_mode.none, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst`` (PSUM) ``= stationary.T @ moving`` (SBUF): ``[K, M]`` and ``[K, N]`` give ``[M, N]``, float32 inside.

    ``accumulate``: add to what PSUM holds (True), overwrite it (False), or add where it was written before (None).
    With ``perf_mode=double_row`` the contraction also runs over a first free dimension of 2. With ``is_transpose``
    the moving operand is an identity (or permutation) and data pass bit by bit.
    Source: ``nki.isa.nc_matmul``.
    """
    call = Call("nc_matmul", name)
    plain = perf_mode is matmul_perf_mode.none and not tile_position and not tile_size
    form = call.form((dst, stationary, moving), bool(is_transpose)) if plain else None
    plan = call.core.passed.get(form)
    if plan is None:
        plan = _plan(call, dst, stationary, moving, is_transpose, perf_mode, tile_position, tile_size)
        call.passes(form, plan)
    rows, columns, contracted, double, position, size = plan
    adds = _adds(call, dst, False if is_transpose else accumulate)
    record = call.issue(
        engine.tensor, (stationary, moving), (dst,), rows=rows, columns=columns, depth=contracted,
        macs=rows * columns * contracted,
        attributes={
            "accumulate": _said(adds), "transpose": is_transpose, "perf_mode": "double_row" if double else "none",
            "tile_position": position, "tile_size": size, "onezero": is_stationary_onezero or is_moving_onezero,
        },
    )  # fmt: skip
    if call.values:
        if is_transpose:
            _pass_through(call, dst, stationary, moving)
        else:
            _product(call, dst, (stationary, moving), (contracted, rows, columns), adds)
    _matmul_state(dst)
    return record


def _said(adds: Any) -> str:
    return "some" if isinstance(adds, np.ndarray) else str(bool(adds))


def _adds(call: Call, dst: NkiTensor, accumulate: bool | None) -> Any:
    """Whether a product adds to PSUM: True, False, or per element where only some of it was written.

    Source: ``nki.isa.nc_matmul``, "Accumulation mode".
    """
    if accumulate is not None and not accumulate:
        return False
    if not call.values:
        return dst.indirection is None and dst.storage.accumulates(_view(dst))
    if dst.indirection is not None:
        view = scalar(call, "dst", dst) if dst.indirection.kind == "scalar" else None
        return _adds_indirect(call, dst, accumulate) if view is None else _adds(call, view, accumulate)
    storage = dst.storage
    state = storage.written
    words = None if isinstance(state, bool) else window(state, dst.itemsize, dst.shape, dst.strides, dst.offset)
    lacking = dst.size * (not state) if words is None else int(np.count_nonzero(words == 0))
    if accumulate and lacking:
        raise call.fail(
            "dst", f"accumulate=True onto uninitialised psum, elements of {dst!r} never written", lacking,
            "a first matmul with accumulate=False", "psum-accumulate",
        )  # fmt: skip
    if lacking == dst.size:
        return False
    if call.version < nc_version.gen4:
        _started_by_matmul(call, dst, bool(accumulate), lacking)
    if words is not None and tainted(dst):
        call.undefined = {**(call.undefined or {}), "dst": elements(dst) & (words != 0)}
        call.origin = dst.storage.origin
        call.core.pending = call
    return True if words is None or lacking == 0 else words != 0


def _started_by_matmul(call: Call, dst: NkiTensor, asked: bool, lacking: int) -> None:
    """What NeuronCore-v2 and v3 add to must come from a matmul: an error where the kernel asks to add."""
    foreign = missing(dst.storage.matmul, dst.itemsize, dst.shape, dst.strides, dst.offset)
    if foreign <= lacking:
        return
    if asked:
        raise call.fail(
            "dst", f"accumulate=True on NeuronCore-v{int(call.version)} onto elements that no matmul wrote", foreign,
            "a first matmul with accumulate=False", "psum-accumulate",
        )  # fmt: skip
    note(
        call.core, "psum-value-init", "matmul accumulates onto PSUM that a matmul did not start: undefined on "
        f"NeuronCore-v{int(call.version)}", call.source,
    )  # fmt: skip


def _adds_indirect(call: Call, dst: NkiTensor, accumulate: bool | None) -> Any:
    """The same of an indirect view, by the words it points at."""
    state = dst.storage.written
    if isinstance(state, bool):
        call.require(state or not accumulate, "dst", "accumulate=True onto", "uninitialised psum",
                     "a first matmul with accumulate=False", "psum-accumulate")  # fmt: skip
        return state
    whole = dst.storage.nbytes - dst.storage.nbytes % dst.itemsize
    known: Array = np.all(state[:whole].reshape(-1, dst.itemsize), axis=1)
    seen: Array = known[free(call, "dst", dst, engine.tensor)]
    call.require(bool(seen.all()) or not accumulate, "dst", "accumulate=True onto uninitialised psum, elements",
                 int(np.count_nonzero(~seen)), "a first matmul with accumulate=False", "psum-accumulate")  # fmt: skip
    return True if seen.all() else seen if seen.any() else False


def _product(
    call: Call, dst: NkiTensor, operands: tuple[NkiTensor, NkiTensor], sizes: tuple[int, int, int], adds: Any
) -> None:
    """The product of two operands of ``sizes`` (contraction, rows, columns): later, where both can stay until then."""
    stationary, moving = operands
    kinds, (depth, rows, columns) = (stationary.dtype, moving.dtype), sizes
    if isinstance(adds, bool) and _stays(stationary) and _stays(moving):
        waits = waiting_for(dst, rows, columns, depth, adds)
        if waits is not None:
            waits.append(Operand(stationary, kinds[0]), Operand(moving, kinds[1]), depth)
            _written(dst)
            return
    first, second = call.read("stationary", stationary), call.read("moving", moving)
    values = first.reshape(depth, rows), second.reshape(depth, columns)
    _multiply(call, dst, values, kinds, adds, [_lies(stationary), _lies(moving)])


def _lies(operand: NkiTensor) -> NkiTensor | None:
    """Where an operand lies, if at one place that does not depend on values."""
    return operand if operand.indirection is None else None


def _stays(operand: NkiTensor) -> bool:
    """Whether an operand is a matrix, all defined, that can be read where it is when its product is needed."""
    storage = operand.storage
    return storage.written is True and operand.indirection is None and len(operand.shape) == 2 and storage.scale == 1


def _multiply(
    call: Call, dst: NkiTensor, operands: tuple[Array, Array], kinds: tuple[DType, DType], adds: Any,
    views: Sequence[NkiTensor | None] = (None, None),
) -> None:  # fmt: skip
    """Write ``stationary.T @ moving``, added to what PSUM holds where ``adds`` says so: in float32, rounded once."""
    stationary, moving = operands
    if isinstance(adds, bool):
        waits = waiting_for(dst, stationary.shape[1], moving.shape[1], stationary.shape[0], adds)
        if waits is not None:
            first, second = (
                Operand(view, kind, _copied(values, kind))
                for view, values, kind in zip(views, operands, kinds, strict=True)
            )
            waits.append(first, second, stationary.shape[0])
            _written(dst)
            return
    with np.errstate(all="ignore"):
        result = product(to_float32(stationary, kinds[0]).T, to_float32(moving, kinds[1])).reshape(dst.shape)
        if adds is not False:
            held = _held(dst, call) if dst.is_indirect() else to_float32(array(dst), dst.dtype)
            result = result + held if adds is True else np.where(adds, result + held, result)
        call.write("dst", dst, result)


def _copied(values: Array, kind: DType) -> Array:
    """Values of its own, float32."""
    wide = to_float32(values, kind)
    return wide.copy() if wide is values else wide


def _held(dst: NkiTensor, call: Call) -> Array:
    """What PSUM holds where an indirect view points, written or not, as float32."""
    return to_float32(flat_values(dst)[addresses_of(call, "dst", dst)[0]], dst.dtype)


def _written(dst: NkiTensor) -> None:
    """The bytes of ``dst`` are initialised now."""
    storage = dst.storage
    if storage.written is not True:
        storage.written = mark(storage.written, storage.nbytes, dst.itemsize, dst.shape, dst.strides, dst.offset)


def _matmul_state(dst: NkiTensor) -> None:
    """Remember which bytes of PSUM hold matmul results."""
    if dst.indirection is None:
        dst.storage.accumulate(_view(dst))


def _view(dst: NkiTensor) -> View:
    return dst.dtype.itemsize, dst.shape, dst.strides, dst.offset


def _pass_through(call: Call, dst: NkiTensor, data: NkiTensor, moving: NkiTensor) -> None:
    """Transpose mode: column n of the output is the row of ``data`` that column n of ``moving`` names, bit by bit.

    NeuronCore-v2 has no such mode: it multiplies, and what is not finite spreads. So does a moving operand that is
    no permutation.
    """
    factors = flat(call.read_float("moving", moving))
    values = flat(call.read("stationary", data))
    selector = factors != 0
    if call.version >= nc_version.gen3 and (np.count_nonzero(selector, axis=0) == 1).all():
        _store_bits(call, dst, values[selector.argmax(axis=0)].T, data)
        return
    with np.errstate(all="ignore"):
        call.write("dst", dst, product(to_float32(values, data.dtype).T, factors).reshape(dst.shape))


def _store_bits(call: Call, dst: NkiTensor, moved: Array, data: NkiTensor) -> None:
    """Transposed elements as they are; float32 takes narrower ones by value, and 16 bits take the 8 of an FP8.

    Source: the Trainium2 architecture guide, "Built-in Transpose Support".
    """
    moved = np.ascontiguousarray(moved).reshape(dst.shape)
    kind = array(dst).dtype if not dst.is_indirect() else dst.dtype.storage
    if moved.dtype != kind:
        if moved.dtype.itemsize == kind.itemsize:
            moved = moved.view(kind)
        elif moved.dtype.itemsize == 1 and kind.itemsize == 2:
            moved = moved.view(np.uint8).astype(np.uint16).view(kind)
        else:
            moved = to_float32(moved, data.dtype)
    call.write("dst", dst, moved)


def nc_matmul_mx(
    dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor, stationary_scale: NkiTensor, moving_scale: NkiTensor,
    tile_position: Sequence[int] | None = None, tile_size: Sequence[int] | None = None,
    accumulate: bool | None = None, name: str | None = None,
) -> Instruction:  # fmt: skip
    """``dst = stationary.T @ moving`` of MX operands, four elements deep per partition (NeuronCore-v4).

    ``stationary`` ``[K, M]`` and ``moving`` ``[K, N]`` are packed containers, MXFP8 and MXFP4 in any mix; each scale
    serves 8 partitions of 4 elements. ``dst`` is float32 or bfloat16. Source: ``nki.isa.nc_matmul_mx``.
    """
    call = Call("nc_matmul_mx", name)
    call.generation(nc_version.gen4)
    for operand, tensor, place in (("stationary", stationary, SBUF), ("moving", moving, SBUF), ("dst", dst, PSUM)):
        call.tile(operand, tensor, place)
    for operand, tensor in (("stationary", stationary), ("moving", moving)):
        call.require(str(tensor.dtype) in MX, operand, "dtype", tensor.dtype, " or ".join(MX), "matmul-dtype")
    depth, rows, columns = stationary.shape[0], stationary.free_size, moving.free_size
    call.require(moving.shape[0] == depth, "moving", "partitions", moving.shape[0], f"{depth}, as stationary", "shape")
    call.require(depth % 32 == 0, "stationary", "partitions", depth, "a multiple of 32", "mx-layout")
    call.require(rows <= 128 and rows % 2 == 0, "stationary", "free size", rows, "even, at most 128", "matmul-size")
    _check_output(call, dst, rows, columns, False, stationary)
    position, size = _check_tile(call, tile_position, tile_size, depth, rows)
    call.require(size[1] == 128, "tile_size", "column size", size[1], "128", "matmul-tile")
    _no_tiling(call, position, stationary, moving, dst)
    scales = [
        scale_view(call, operand, scale, depth, free)
        for operand, scale, free in (
            ("stationary_scale", stationary_scale, rows), ("moving_scale", moving_scale, columns),
        )
    ]  # fmt: skip
    adds = _adds(call, dst, accumulate)
    record = call.issue(
        engine.tensor, (stationary, moving, *scales[0], *scales[1]), (dst,), rows=rows, columns=columns,
        depth=depth * 4, macs=rows * columns * depth * 4,
        attributes={"accumulate": _said(adds), "tile_position": position, "tile_size": size},
    )  # fmt: skip
    if call.values:
        first, second = (
            _decoded(call, *operand)
            for operand in (("stationary", stationary, scales[0]), ("moving", moving, scales[1]))
        )
        if call.undefined:
            held = {name: mask for name, mask in call.undefined.items() if name == "dst"}
            call.undefined = {**held, "dst of the product": of_product(call.undefined, first, second)}
        _multiply(call, dst, (first, second), (DTYPES["float32"],) * 2, adds)
    _matmul_state(dst)
    return record


def _decoded(call: Call, operand: str, tensor: NkiTensor, scales: list[NkiTensor]) -> Array:
    """MX values as float32 ``[4 * K, F]``; of undefined scales the data are undefined."""
    octets = []
    doubtful = len(scales) > 1 and scales[0].storage.written is not True
    part = doubtful and any(not elements(view).all() for view in scales)
    for quadrant, view in enumerate(scales):
        octets.append(flat(call.read(f"{operand}_scale", view, part=part)).view(np.uint8))
        spoilt = (call.undefined or {}).pop(f"{operand}_scale", None)
        if spoilt is not None:
            assert call.undefined is not None
            rows = np.repeat(flat(spoilt), 8, axis=0)
            mask = call.undefined.setdefault(operand, np.zeros((tensor.shape[0], tensor.free_size), np.bool_))
            mask[32 * quadrant : 32 * quadrant + len(rows)] |= rows
    data = call.read(operand, tensor) if operand not in (call.undefined or {}) else _beside(call, operand, tensor)
    values = dequantise(flat(data), np.concatenate(octets), str(tensor.dtype))
    return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(-1, values.shape[1])


def _beside(call: Call, operand: str, tensor: NkiTensor) -> Array:
    """Data whose scales are partly undefined already: what is undefined of either."""
    known = (call.undefined or {}).pop(operand)
    data = call.read(operand, tensor)
    own = (call.undefined or {}).get(operand)
    call.undefined = {**(call.undefined or {}), operand: known if own is None else known | flat(own)}
    return data


def nc_transpose(
    dst: NkiTensor, data: NkiTensor, engine: engine = _engine.unknown, name: str | None = None
) -> Instruction:
    """``dst`` ``[F, P]`` is ``data`` ``[P, F]`` transposed, bit by bit.

    TensorE: up to 128 by 128, from SBUF to PSUM. VectorE: up to 32 by 32, SBUF or PSUM.
    Source: ``nki.isa.nc_transpose``.
    """
    call = Call("nc_transpose", name)
    call.tile("data", data, ON_CHIP)
    call.tile("dst", dst, ON_CHIP)
    partitions, free = data.shape[0], data.free_size
    if dst.shape[0] != free or dst.free_size != partitions:
        raise call.fail("dst", "shape", dst.shape, f"({free}, {partitions})", "shape")
    through_tensor = data.buffer is MemoryRegion.sbuf and dst.buffer is MemoryRegion.psum
    small = max(partitions, free) <= 32
    default = _engine.tensor if through_tensor and (str(data.dtype) in INPUTS or not small) else _engine.vector
    on = call.on_engine(engine, (_engine.tensor, _engine.vector), default)
    if on is _engine.tensor:
        call.tile("data", data, SBUF)
        call.tile("dst", dst, PSUM)
    else:
        for operand, count in (("partitions", partitions), ("elements per partition", free)):
            call.require(count <= 32, "data", f"{operand} on vector", count, "at most 32", "transpose-size")
    good = _turns_into(data, dst) if on is _engine.tensor else dst.itemsize == data.itemsize
    call.require(good, "dst", "dtype", dst.dtype, f"{data.dtype}, as data", "dtype")
    work = {"rows": free, "columns": partitions, "depth": partitions} if on is _engine.tensor else {"elements": free}
    record = call.issue(on, (data,), (dst,), attributes={"transpose": True}, **work)
    if call.values:
        values = flat(call.read("data", data))
        if on is _engine.tensor and call.version < nc_version.gen3 and data.dtype.is_float:
            values = _spread_specials(values, data)
        _store_bits(call, dst, values.T, data)
    if dst.buffer is MemoryRegion.psum:
        _matmul_state(dst)
    return record


def _spread_specials(values: Array, data: NkiTensor) -> Array:
    """What is not finite spoils its column when NeuronCore-v2 multiplies by an identity. Source: ``nc_transpose``."""
    spoilt = ~np.isfinite(to_float32(values, data.dtype)).all(axis=0)
    if not spoilt.any():
        return values
    values = np.array(values)
    wide = to_float32(values[:, spoilt], data.dtype)
    others = ~np.isfinite(wide)
    alone = (others.sum(axis=0) == 1) & others & ~np.isnan(wide)
    values[:, spoilt] = np.where(alone, wide, np.float32(np.nan)).astype(values.dtype)
    return values
