"""A binary heap of compiled loops: keys in one array, tags in another; equal keys are in the order of their tags."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def sift_up(key: NDArray[np.float64], tag: NDArray[np.int64], size: int, k: float, t: int) -> None:
    """Add an entry to a heap of ``size`` entries."""
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if key[parent] < k or (key[parent] == k and tag[parent] < t):
            break
        key[i], tag[i] = key[parent], tag[parent]
        i = parent
    key[i], tag[i] = k, t


@njit(cache=True, nogil=True)
def sift_down(key: NDArray[np.float64], tag: NDArray[np.int64], size: int, k: float, t: int) -> None:
    """Put an entry in place of the root of a heap of ``size`` entries."""
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size:
            a, b = key[child], key[child + 1]
            if b < a or (b == a and tag[child + 1] < tag[child]):
                child += 1
        if key[child] > k or (key[child] == k and tag[child] > t):
            break
        key[i], tag[i] = key[child], tag[child]
        i = child
    key[i], tag[i] = k, t
