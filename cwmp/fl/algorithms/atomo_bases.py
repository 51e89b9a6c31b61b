"""Bases in which ATOMO writes a layer: singular vectors, and a real Fourier basis.

A basis turns a layer into coefficients and rows of numbers, one row an atom, and back. The real
Fourier basis is Hartley's, cas(x) = cos x + sin x: orthonormal, its own inverse, and one real
number an atom, the atom's place being its frequency (Bracewell 1983).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from profiler.errors import PayloadError, UpdateError

Shape = tuple[int, ...]
Floats = NDArray[np.float64]


class Atoms(NamedTuple):
    """A layer in a basis.

    Attributes:
        coefficients: s; shape (atoms,).
        left, right: the vectors of each atom, shapes (atoms, m) and (atoms, n); ``None`` where an
            atom is its place.
    """

    coefficients: Floats
    left: Floats | None = None
    right: Floats | None = None


class Basis(Protocol):
    """Atoms of layers."""

    @property
    def name(self) -> str:
        """As in ``atomo:NAME``."""
        ...

    def size(self, shape: Shape) -> tuple[int, int]:
        """How many atoms a layer has and how many numbers each takes; no atoms: send it whole."""
        ...

    def analyse(self, layer: NDArray[np.floating]) -> Atoms:
        """The layer's atoms."""
        ...

    def rows(
        self, atoms: Atoms, kept: NDArray[np.int64], factors: Floats
    ) -> tuple[NDArray[np.int64], Floats]:
        """What is sent of *kept* atoms, coefficients times *factors*: places and numbers."""
        ...

    def layer(self, places: NDArray[np.int64], numbers: Floats, shape: Shape) -> Floats:
        """The layer that they add up to.

        Raises:
            PayloadError: places that `rows` never gives.
        """
        ...


class SingularVectors:
    """A layer as sum of s_i u_i v_i^T, its first dimension by the rest; vectors go out whole.

    An atom's row is (s_i f_i u_i, v_i), m + n numbers, the rows one after the other from place 0.
    """

    name = "svd"

    def size(self, shape: Shape) -> tuple[int, int]:
        if len(shape) < 2:
            return 0, 0
        m, n = shape[0], prod(shape[1:])
        return (0, 0) if min(m, n) < 2 else (min(m, n), m + n)

    def analyse(self, layer: NDArray[np.floating]) -> Atoms:
        matrix = layer.reshape(layer.shape[0], -1).astype(np.float64)
        try:
            u, s, v = np.linalg.svd(matrix, full_matrices=False)
        except np.linalg.LinAlgError as error:
            raise UpdateError(f"a layer of shape {layer.shape} has no SVD: {error}") from error
        return Atoms(s, u.T, v)

    def rows(
        self, atoms: Atoms, kept: NDArray[np.int64], factors: Floats
    ) -> tuple[NDArray[np.int64], Floats]:
        if atoms.left is None or atoms.right is None:
            raise UpdateError("singular values without their vectors")
        scale = (atoms.coefficients[kept] * factors)[:, None]
        numbers = np.concatenate((scale * atoms.left[kept], atoms.right[kept]), axis=1)
        return np.arange(numbers.size), numbers.reshape(-1)

    def layer(self, places: NDArray[np.int64], numbers: Floats, shape: Shape) -> Floats:
        m = shape[0]
        width = m + prod(shape[1:])
        if places.size % width or not np.array_equal(places, np.arange(places.size)):
            raise PayloadError(
                f"payload holds {places.size} numbers of singular vectors that are not whole rows "
                f"of {width}, one after the other"
            )
        rows = numbers.reshape(-1, width)
        whole: Floats = (rows[:, :m].T @ rows[:, m:]).reshape(shape)
        return whole


class HartleyBasis:
    """A flattened layer as sum of H_k cas(2 pi k x / n) / sqrt(n)."""

    name = "fourier"

    def size(self, shape: Shape) -> tuple[int, int]:
        return prod(shape), 1

    def analyse(self, layer: NDArray[np.floating]) -> Atoms:
        return Atoms(_hartley(layer.reshape(-1).astype(np.float64)))

    def rows(
        self, atoms: Atoms, kept: NDArray[np.int64], factors: Floats
    ) -> tuple[NDArray[np.int64], Floats]:
        return kept, atoms.coefficients[kept] * factors

    def layer(self, places: NDArray[np.int64], numbers: Floats, shape: Shape) -> Floats:
        coefficients = np.zeros(prod(shape))
        coefficients[places] = numbers
        return _hartley(coefficients).reshape(shape)


def _hartley(values: Floats) -> Floats:
    """The orthonormal discrete Hartley transform: Re F - Im F of the unitary Fourier transform."""
    transformed = np.fft.fft(values, norm="ortho")
    result: Floats = transformed.real - transformed.imag
    return result
