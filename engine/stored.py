"""Weights as they are stored: whole numbers of 4, 5, 6 or 8 bits, and a scale for each block of a row.

What is stored and what computes differ. One file serves every backend: it is unpacked for ONNX Runtime into numbers of
eight bits, which it multiplies fastest (engine.unpacked), for torch into floats. A matrix lies in planes of 8, 4,
2 or 1 bits (six bits are planes of 4 and 2), each as bytes, so that unpacking is a few operations over whole arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from engine.contract import EngineError

PLANES = {8: (8,), 6: (4, 2), 5: (4, 1), 4: (4,)}  # widths in bits, the highest bits first
COMPUTED = 128  # weights of a row that share a scale when they are multiplied, which is fastest
ZERO = 128  # what stands for 0 in eight bits
ROWS = 1 << 19  # numbers that are unpacked at once
HEADER = 1 << 17  # bytes that `write_each` leaves for the names, whose arrays it does not know yet
KINDS = {"uint8": "U8", "int64": "I64", "float16": "F16", "float32": "F32"}  # as safetensors names them
CLIPPING = np.linspace(0.8, 1.0, 9, dtype=np.float32)  # shares of a block's largest weight that scales are tried for


class Matrix(msgspec.Struct, frozen=True):
    """numbers (rows, columns) uint8, of which 128 is nought and `bits` are used; scales (rows, blocks) float32."""

    numbers: NDArray[np.uint8]
    scales: NDArray[np.float32]
    bits: int

    @property
    def block(self) -> int:
        return int(self.numbers.shape[1] // self.scales.shape[1])

    def floats(self) -> NDArray[np.float32]:
        rows, blocks = self.scales.shape
        whole = (self.numbers.astype(np.float32) - ZERO).reshape(rows, blocks, -1)
        return np.asarray((whole * self.scales[:, :, None]).reshape(self.numbers.shape), np.float32)

    def wide(self) -> Matrix:
        """With blocks of `COMPUTED` in eight bits, the last filled up, where the bits leave room for that."""
        rows, columns = self.numbers.shape
        if self.bits == 8 or self.block >= COMPUTED:
            return self
        blocks = np.pad(self.floats(), ((0, 0), (0, -columns % COMPUTED))).reshape(rows, -1, COMPUTED)
        scales = np.maximum(np.abs(blocks).max(-1), 1e-7) / (ZERO - 1)
        numbers = np.round(blocks / scales[:, :, None]) + ZERO
        return Matrix(numbers.astype(np.uint8).reshape(rows, -1), scales.astype(np.float32), 8)


Weights: TypeAlias = Mapping[str, Matrix | NDArray[np.float32]]  # by name; what is no matrix is stored as it is


def quantise(weight: NDArray[np.float32], bits: int, block: int) -> Matrix:
    """The nearest numbers of so many bits, symmetric around nought, with the scale of each block that errs least in
    the mean square. Scales are those that float16 can tell.
    """
    rows, columns = weight.shape
    block = math.gcd(block, columns)
    blocks = weight.reshape(rows, columns // block, block)
    most = 2 ** (bits - 1) - 1
    largest = np.maximum(np.abs(blocks).max(-1, keepdims=True), 1e-7)
    best = np.full(largest.shape, np.inf, np.float32)
    numbers, scales = np.zeros(blocks.shape, np.int8), np.zeros(largest.shape, np.float32)
    for share in CLIPPING if bits < 8 else CLIPPING[-1:]:
        scale = (largest * share / most).astype(np.float16).astype(np.float32)
        scale = np.maximum(scale, np.float32(6e-8))
        tried = np.clip(np.round(blocks / scale), -most, most)
        error = np.square(tried * scale - blocks).sum(-1, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        numbers, scales = np.where(better, tried, numbers).astype(np.int8), np.where(better, scale, scales)
    whole = (numbers.astype(np.int16) + ZERO).astype(np.uint8).reshape(weight.shape)
    return Matrix(whole, scales[:, :, 0].astype(np.float32), bits)


def pack(name: str, matrix: Matrix) -> dict[str, NDArray[np.generic]]:
    """The arrays of a matrix by name: a plane for each width, and the scales, in float16 if that can tell them."""
    left = bits = matrix.bits
    values = matrix.numbers - np.uint8(ZERO - 2 ** (bits - 1))
    half = matrix.scales.astype(np.float16)
    scales = half if (half == matrix.scales).all() else matrix.scales
    packed: dict[str, NDArray[np.generic]] = {f"{name}.scales": scales}
    for width in PLANES[bits]:
        left -= width
        plane = (values >> left & (2**width - 1)).reshape(-1, 8 // width)
        shifts = np.arange(0, 8, width, dtype=np.uint8)
        packed[f"{name}.{width}"] = np.bitwise_or.reduce(plane << shifts, axis=1).reshape(len(matrix.numbers), -1)
    return packed


def unpack(name: str, packed: Mapping[str, NDArray[Any]], wide: bool = False) -> Matrix:
    """As it is stored, or as `Matrix.wide` makes it. Raises KeyError where there is no such matrix.

    Some rows after the other, so that what is in between stays in the processor's cache and never exists at once.
    """
    parts = {part: packed[f"{name}.{part}"] for part in ("scales", "8", "4", "2", "1") if f"{name}.{part}" in packed}
    scales = parts.pop("scales")
    bits = sum(map(int, parts))
    if bits == 8:
        return Matrix(parts["8"], scales.astype(np.float32), bits)  # nothing of it is read yet
    made: Matrix | None = None
    step = max(1, ROWS * 8 // bits // max(1, sum(part.shape[1] for part in parts.values())))
    for start in range(0, len(scales), step):
        rows = slice(start, start + step)
        matrix = _unpacked({int(width): part[rows] for width, part in parts.items()}, scales[rows], bits)
        matrix = matrix.wide() if wide else matrix
        if made is None:
            numbers, wide_scales = (
                np.empty((len(scales), part.shape[1]), part.dtype) for part in (matrix.numbers, matrix.scales)
            )
            made = Matrix(numbers, wide_scales, matrix.bits)
        made.numbers[rows], made.scales[rows] = matrix.numbers, matrix.scales
    assert made is not None
    return made


def _unpacked(planes: Mapping[int, NDArray[Any]], scales: NDArray[Any], bits: int) -> Matrix:
    values: Any = np.uint8(0)
    for width, plane in planes.items():
        values = (values << np.uint8(width % 8)) | _spread(plane, width)
    return Matrix(values + np.uint8(ZERO - 2 ** (bits - 1)), scales.astype(np.float32), bits)


def _spread(plane: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Numbers of `width` bits out of bytes, the lowest bits first."""
    parts = [plane >> np.uint8(place) & np.uint8(2**width - 1) for place in range(0, 8, width)]
    return np.stack(parts, axis=-1).reshape(len(plane), -1).astype(np.uint8)


def write(path: Path, weights: Weights, about: str) -> None:
    """Weights, and JSON about the model."""
    floats_first = sorted(weights.items(), key=lambda each: isinstance(each[1], Matrix))  # where they are aligned
    write_each(path, floats_first, about)


def write_each(path: Path, weights: Iterable[tuple[str, Matrix | NDArray[np.float32]]], about: str) -> None:
    """As `write`, one weight after the other, so that they are never in memory together. Raises OSError."""
    entries: dict[str, Any] = {"__metadata__": {"config": about}}
    with path.open("wb") as file:
        file.write(bytes(HEADER))
        for name, weight in weights:
            for part, array in (pack(name, weight) if isinstance(weight, Matrix) else {name: weight}).items():
                start = file.tell() - HEADER
                file.write(np.ascontiguousarray(array).data)
                kind = KINDS[array.dtype.name]
                offsets = [start, file.tell() - HEADER]
                entries[part] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        file.seek(0)
        file.write((HEADER - 8).to_bytes(8, "little") + msgspec.json.encode(entries).ljust(HEADER - 8))


def floats(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Matrices of floats, and what is none as it is."""
    return {name: each.floats() if isinstance(each, Matrix) else np.array(each) for name, each in weights.items()}


def about(path: Path) -> str:
    """What `write` was given about the model. Raises KeyError where that is nothing."""
    with safe_open(path, framework="numpy") as file:
        return str(file.metadata()["config"])


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, of which nothing is read before it is looked at. Raises what a file raises that
    is damaged: SafetensorError, OSError, KeyError, ValueError.
    """
    with safe_open(path, framework="numpy") as file:  # checks what it says of itself
        names = set(file.keys())
    bytes_ = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(bytes_[:8].tobytes(), "little")
    entries = msgspec.json.decode(bytes_[8:start].tobytes())
    kinds = {kind: np.dtype(name) for name, kind in KINDS.items()}
    return {
        name: bytes_[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
        .view(kinds[entry["dtype"]])
        .reshape(entry["shape"])
        for name, entry in entries.items()
        if name in names
    }


def read(path: Path, wide: bool = False) -> Weights:
    """See `each`."""
    return dict(each(path, wide))


def each(path: Path, wide: bool = False) -> Iterator[tuple[str, Matrix | NDArray[np.float32]]]:
    """All weights with their names, one after the other, matrices as they are stored or `wide`. Raises EngineError
    where the file is missing or damaged.
    """
    try:
        packed = mapped(path)
        matrices = [name.removesuffix(".scales") for name in packed if name.endswith(".scales")]
        parts = tuple(f"{name}." for name in matrices)
        yield from ((name, array) for name, array in packed.items() if not name.startswith(parts))
        yield from ((name, unpack(name, packed, wide)) for name in matrices)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise EngineError(f"the weights {path} are missing or damaged ({error}); install the model again") from None
