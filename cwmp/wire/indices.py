"""Which entries a layer keeps, in the fewest bytes.

A Rice code (`cwmp.kernels.rice`) of the kept entries; or, where more than half are kept, of the
missing ones; or, where they stand in runs of four or more in the mean, of the runs' places and of
their lengths. The encoder takes the smallest of these, each with the best of b = 0..31; ties go
to the first in this order, and to the smaller b.

Random indices of density p take b + 1 / (1 - (1 - p)^(2^b)) bits an entry, within 4.4 % of the
entropy H(p) / p at the worst (p near 0.38). b = 0 is the bitmap cut after its last entry, so that
nothing is longer than the bitmap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cwmp.kernels import rice, runs
from cwmp.selection import Indices
from cwmp.wire.header import KEPT, MISSING, RUNS, PartHeader, Reader
from profiler.errors import PayloadError, UpdateError

_COUNT = np.dtype("<u4")
_MEAN_RUN = 4
_INDEX_TYPES = (np.dtype(np.int32), np.dtype(np.int64))


class Stream(NamedTuple):
    """An ascending sequence, its best Rice parameter, and the bits of that code."""

    positions: Indices
    b: int
    bits: int

    @property
    def size(self) -> int:
        return (self.bits + 7) >> 3


class IndexCode(NamedTuple):
    """How a layer's indices are written.

    Attributes:
        code: `KEPT`, `MISSING` or `RUNS`.
        size: bytes that the code takes.
        streams: what is written, one after the other, each filled up to whole bytes.
    """

    code: int
    size: int
    streams: tuple[Stream, ...]

    def header(self, number: int, entries: int) -> PartHeader:
        """The layer's header."""
        second = self.streams[1].b if self.code == RUNS else 0
        return PartHeader(number, entries, self.code, self.streams[0].b, second)

    def to_bytes(self) -> memoryview | bytes:
        written = [_packed(stream) for stream in self.streams]
        if self.code != RUNS:
            return written[0]
        count = np.array(self.streams[0].positions.size, _COUNT)
        return b"".join((count.tobytes(), *written))


def checked_indices(indices: Indices, parameters: int, where: str) -> Indices:
    """*indices*, at least one, contiguous and of a type that the kernels take.

    Raises:
        UpdateError: they are not integers that ascend within 0 to n - 1.
    """
    together = np.ascontiguousarray(indices)
    whole = together.dtype.kind in "iu"
    if whole and together.dtype not in _INDEX_TYPES:
        together = together.astype(np.int64)
    if not whole or not rice.ascends(together, parameters):
        raise UpdateError(f"the indices of {where} must ascend within 0 to {parameters - 1}")
    return together


def smallest_code(indices: Indices, parameters: int) -> IndexCode:
    """The smallest code of *indices*, which have been checked, of a layer of n *parameters*."""
    b, bits, count = rice.survey(indices, parameters)
    k = indices.size
    best = _code(KEPT, Stream(indices, b, bits))
    if 2 * k > parameters:
        missing = np.empty(parameters - k, dtype=np.int32)
        runs.missing_from(indices, missing)
        best = min(best, _code(MISSING, _stream(missing, parameters)), key=_size)
    if _MEAN_RUN * count <= k:
        before, last = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.int32)
        runs.split_runs(indices, before, last)
        found = _code(RUNS, _stream(before, parameters - k + 1), _stream(last, k))
        best = min(best, found, key=_size)
    return best


def read_indices(
    reader: Reader, header: PartHeader, parameters: int, where: str
) -> NDArray[np.int32]:
    """The indices of a layer of which ``header.entries``, 1 to n, are kept.

    Raises:
        PayloadError: truncated, out of range, or not what an encoder writes for these indices.
    """
    start, k = reader.position, header.entries
    if header.code == KEPT:
        indices = _read_stream(reader, header.b, k, parameters, where)
    elif header.code == RUNS:
        indices = _read_runs(reader, header, parameters, where)
    elif header.code == MISSING and 2 * k > parameters:
        missing = _read_stream(reader, header.b, parameters - k, parameters, where)
        indices = np.empty(k, dtype=np.int32)
        runs.missing_from(missing, indices)
        del missing
    else:
        raise PayloadError(f"payload has index code {header.code} for {k} entries of {where}")
    best = smallest_code(indices, parameters)
    if best.header(header.number, k) != header or best.size != reader.position - start:
        raise PayloadError(f"payload has an index code of {where} that is not the smallest")
    return indices


def _read_runs(
    reader: Reader, header: PartHeader, parameters: int, where: str
) -> NDArray[np.int32]:
    k = header.entries
    count = int(np.frombuffer(reader.take(_COUNT.itemsize, where), _COUNT)[0])
    if not 0 < _MEAN_RUN * count <= k:
        raise PayloadError(f"payload has {count} runs in {k} entries of {where}")
    missing = _read_stream(reader, header.b, count, parameters - k + 1, where)
    last = _read_stream(reader, header.b_lengths, count, k, where)
    if last[-1] != k - 1:
        raise PayloadError(f"payload has runs of {where} that do not add up to {k} entries")
    indices = np.empty(k, dtype=np.int32)
    runs.join_runs(missing, last, indices)
    return indices


def _read_stream(reader: Reader, b: int, count: int, limit: int, where: str) -> NDArray[np.int32]:
    """*count* ascending positions below *limit*, and the reader past them."""
    least_bits, left = count * (b + 1), reader.left
    if count > limit or b > rice.MAX_PARAMETER or least_bits > limit:
        raise PayloadError(f"payload has indices of {where} that no encoder writes with b = {b}")
    if least_bits > 8 * left:
        raise PayloadError(f"payload ends within the indices of {where}")
    positions = np.empty(count, dtype=np.int32)
    if not count:
        return positions
    most_bits = min(least_bits + ((limit - count) >> b), limit, 8 * left)
    ahead = reader.ahead((most_bits + 7) >> 3)
    words = np.zeros(((most_bits + 63) >> 6) + 1, dtype=np.uint64)
    words.data.cast("B")[: len(ahead)] = ahead
    bits = rice.unpack(words, most_bits, b, limit, positions)
    if bits < 0:
        raise PayloadError(f"payload has indices of {where} that are cut short or out of range")
    taken = reader.take((bits + 7) >> 3, where)
    if taken[-1] >> (((bits - 1) & 7) + 1):
        raise PayloadError(f"payload has padding bits set after the indices of {where}")
    return positions


def _packed(stream: Stream) -> memoryview:
    words = np.zeros((stream.bits >> 6) + 1, dtype=np.uint64)
    rice.pack(stream.positions, stream.b, words)
    return words.data.cast("B")[: stream.size]


def _stream(positions: Indices, limit: int) -> Stream:
    return Stream(positions, *rice.parameter_of(positions, limit))


def _code(code: int, *streams: Stream) -> IndexCode:
    size = sum([stream.size for stream in streams])
    return IndexCode(code, size + (_COUNT.itemsize if code == RUNS else 0), streams)


def _size(code: IndexCode) -> int:
    return code.size
