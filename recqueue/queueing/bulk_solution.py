"""The numerics of batch service: embedded chain by Wiener-Hopf factor, waits and responses on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln

from recqueue.errors import OutOfValidityError
from recqueue.queueing.distribution import Distribution
from recqueue.queueing.erlang import erlang_b

Array = NDArray[np.float64]
TAIL = 1e-10
"""Mass left out at the end of each range: arrivals in one service, jobs left behind, times."""
_ARRIVALS_A_CELL = 0.1
"""Most arrivals in a cell of the grid on which they are counted; the error of their law falls with its square."""
_LARGEST_TABLE = 1 << 25
"""Entries of the largest table: queue lengths x times."""
CELLS = 256
"""Grid cells in the mean service of a full batch, or less: see ``_LARGEST_GRID``."""
_ROUNDS = 4
"""Of the fixed point between batch sizes and gaps, with several servers."""
_CELLS_OF_CHAIN = 256
"""Least grid cells in a full batch when arrivals are counted."""
_LARGEST_GRID = 4096
"""Grid cells in the whole range of waits (before padding); near saturation waits are longer and smoother."""


class Chain:
    """Jobs left behind by each service, batch sizes and loads; see ``bulk.one_server`` and ``bulk.many_servers``."""

    def __init__(self, rate: float, laws: Sequence[Distribution], servers: int) -> None:
        self.rate, self.laws, self.servers, self.largest = rate, laws, servers, len(laws)
        self.longest_s = [_longest(law) for law in laws]
        mean_full = laws[-1].mean / servers
        cells = max(_CELLS_OF_CHAIN, np.ceil(mean_full * rate / _ARRIVALS_A_CELL))
        gaps = Gaps(laws, servers, max(mean_full / cells, max(self.longest_s) / _LARGEST_GRID), max(self.longest_s))
        counts = gaps.arrivals(rate)
        self.sizes = np.append(np.zeros(self.largest), 1.0)
        for _ in range(1 if servers == 1 else _ROUNDS):
            self.left = _left_behind(gaps.masses(self.sizes) @ counts)
            self.gap_sizes = self.sizes  # those that the gaps were made for
            self._cycle()
        decay = _decay((gaps.masses(self.sizes) @ counts)[-1], self.largest)
        self.reach_s = -np.log(TAIL) / decay / self.largest * mean_full + max(self.longest_s)

    def _cycle(self) -> None:
        """Batch sizes, the share of time the fast server is busy, and the chance to find all servers busy."""
        F, left = self.largest, self.left
        means = np.array([law.mean for law in self.laws])
        queued = np.zeros(F + 1)
        queued[:F] = left[:F]
        queued[F] = left[F:].sum()
        after_idle = queued[0]
        queued[0] = 0.0
        sizes = queued.copy()
        sizes[1] += after_idle
        self.sizes_all_busy = sizes
        self.per_launch = float(sizes @ np.arange(F + 1))  # jobs
        q = np.arange(F + 1)
        self.busy_fast = busy_fast = 1 - after_idle / self.per_launch
        if self.servers == 1:
            self.busy, self.sizes, self.utilization = busy_fast, sizes, busy_fast
            return
        # Jobs that wait share batches; the others are served alone.
        c, waiting = self.servers, queued / queued.sum()
        work_waiting = float(waiting[1:] @ means) / float(waiting @ q)

        def all_busy(load: float) -> float:
            open_s = 1 / (self.rate * erlang_b(c - 1, load))
            closed_s = busy_fast / (1 - busy_fast) / self.rate
            return float(closed_s / (closed_s + open_s))

        def gap(load: float) -> float:
            p = all_busy(load)
            flow = self.rate * ((1 - p) * means[0] + p * work_waiting)
            return float(flow - p * c - (1 - p) * load * (1 - erlang_b(c - 1, load)))

        top = 2.0 * c
        while gap(top) > 0 and top < 1e6 * c:
            top *= 2
        load = float(brentq(gap, 1e-12, top, xtol=1e-12)) if gap(1e-12) > 0 > gap(top) else self.rate * means[0]
        p = all_busy(load)
        self.busy = p
        alone, shared = 1 - p, p / float(waiting @ q)
        self.sizes = shared * waiting
        self.sizes[1] += alone
        self.sizes /= self.sizes.sum()
        self.utilization = self.rate * ((1 - p) * means[0] + p * work_waiting) / c


class Waits:
    """Waits and responses of the jobs that find all servers busy, on a grid of ``cells`` in a full batch."""

    def __init__(self, chain: Chain, cells: int) -> None:
        mean_full = chain.laws[-1].mean / chain.servers
        step = max(mean_full / cells, chain.reach_s / (_LARGEST_GRID * cells / CELLS))
        self.step = mean_full / max(1, round(mean_full / step))  # a constant full service ends on the grid
        self.masses = Gaps(chain.laws, chain.servers, self.step, max(chain.longest_s)).masses(chain.gap_sizes)
        self.delayed = self._tails(chain)

    def _tails(self, chain: Chain) -> dict[str, Array]:
        """Joint law of the wait D and of the size of the batch a job ends up in; tails of wait and response."""
        F, rate, step, left = chain.largest, chain.rate, self.step, chain.left
        # Position behind the running service and what is left of that service, cell by cell.
        end = np.searchsorted(-np.cumsum(left[::-1])[::-1], -TAIL)
        places = F * -(-int(end + _most_arrivals(rate * step * self.masses.shape[1])) // F)
        size = 1 << int(np.ceil(np.log2(2 * places)))
        _check_size(size * self.masses.shape[1])
        x = rate * step * (1 - np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size))
        left_full = left[F:].copy()
        if F == 1:
            left_full[0] += left[0]  # the service after an idle time is a full one too
        behind = np.fft.rfft(left_full, size)
        few = chain.sizes_all_busy[1:F] @ self.masses[: F - 1] if F > 1 else np.zeros(self.masses.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            within = np.where(x == 0, 1.0, -np.expm1(-x) / np.where(x == 0, 1.0, x)) * step
        fade, running = np.exp(-x), np.zeros(len(x), dtype=complex)
        cells = self.masses.shape[1] - 1
        rest = np.empty((cells, len(x)), dtype=complex)
        for i in range(cells, 0, -1):
            running = running * fade + few[i] + behind * self.masses[-1, i]
            rest[i - 1] = running
        found = np.fft.irfft(rest * (within * rate / chain.per_launch), size, axis=1)[:, :places]
        found = np.maximum(found, 0.0).reshape(cells, -1, F)
        rounds = found.shape[1]
        mean_full = float(self.masses[-1] @ np.arange(cells + 1))
        length = 1 << int(np.ceil(np.log2(rounds * mean_full + 8 * np.sqrt(rounds) * mean_full / 2 + 2 * cells)))
        full = np.fft.rfft(self.masses[-1], length)[:, None]
        total = np.zeros((length // 2 + 1, F), dtype=complex)
        for m in range(rounds - 1, -1, -1):  # Horner: each further round is one more full service
            total = total * full + np.fft.rfft(found[:, m], length, axis=0)
        joint = np.maximum(np.fft.irfft(total, length, axis=0), 0.0)  # (cells of the wait, place in the batch)
        # Jobs that arrive behind during the wait fill the batch up.
        mean_behind = rate * step * (np.arange(length) + 0.5)
        chance = np.exp(-mean_behind)
        by_size = np.zeros((length, F))
        for d in range(F):
            by_size[:, d:] += joint[:, : F - d] * chance[:, None]
            chance = chance * mean_behind / (d + 1)
        by_size[:, F - 1] += joint.sum(axis=1) - by_size.sum(axis=1)
        # What is found waiting must add up to the share of time that is busy, which comes from the chain alone. (The
        # gaps of several servers have slightly different means on the two grids.)
        if abs(by_size.sum() - chain.busy_fast) > (1e-6 if chain.servers == 1 else 1e-3):
            raise OutOfValidityError(
                f"batch service: the waits add up to {by_size.sum():.8f}, busy is {chain.busy_fast:.8f} of the time"
            )
        by_size = np.maximum(by_size, 0.0) / by_size.sum()
        own = [
            _masses(_cell_tails(law, step, int(np.ceil(end / step)) + 2))
            for law, end in zip(chain.laws, chain.longest_s, strict=True)
        ]
        reach = length + max(len(o) for o in own)
        padded = 1 << int(np.ceil(np.log2(reach)))
        done = sum(np.fft.rfft(by_size[:, q], padded) * np.fft.rfft(own[q], padded) for q in range(F))
        return {
            "wait": _tail_of(by_size.sum(axis=1)),
            "response": _tail_of(np.fft.irfft(done, padded)[:reach]),
        }


def _check_size(entries: int) -> None:
    if entries > _LARGEST_TABLE:
        raise OutOfValidityError(
            f"batch service: a table of {entries} queue lengths x times, at most {_LARGEST_TABLE} are used: the load "
            "is too high or the service too variable; lower the rate"
        )


def _tail_of(masses: Array) -> Array:
    """Tail at the cell ends of masses in cells, cut where nothing is left."""
    tail = np.concatenate(([1.0], 1 - np.cumsum(np.maximum(masses, 0.0)) / np.maximum(masses, 0.0).sum()))
    keep = int(np.searchsorted(-tail, -1e-12)) + 1
    return np.asarray(np.maximum(tail[: max(keep, 2)], 0.0))


def _longest(law: Distribution) -> float:
    """A time that the law exceeds with a probability below the tail that is left out; a constant itself."""
    t = law.mean
    while float(law.sf(t)) > TAIL:
        t *= 1.1
    return t


def _masses(cell_tails: Array) -> Array:
    """Masses at the grid points from the means of the tail over the cells: linear interpolation keeps the mean."""
    masses = np.maximum(-np.diff(cell_tails, prepend=1.0, axis=-1), 0.0)
    return np.asarray(masses / masses.sum(axis=-1, keepdims=True))


def _cell_tails(law: Distribution, step: float, cells: int) -> Array:
    return np.diff(law.limited_mean(step * np.arange(cells + 1))) / step


class Gaps:
    """Times from the start of a service to the next moment a server is free, all busy: see ``bulk.many_servers``."""

    def __init__(self, laws: Sequence[Distribution], servers: int, step: float, longest: float) -> None:
        self.servers, self.step = servers, step
        cells = int(np.ceil(longest / step * (1 - 1e-12))) + 2
        self.tails = np.array([_cell_tails(law, step, cells) for law in laws])
        self.full = _masses(_cell_tails(laws[-1], step * servers, cells))

    def masses(self, sizes: Array) -> Array:
        """For each batch size, given the shares of batch sizes among the services, q = 0..F."""
        if self.servers == 1:
            return _masses(self.tails)
        left = np.cumsum((sizes[1:] @ self.tails)[::-1])[::-1]
        others = np.append(left, 0.0) / left[0]
        others = others ** (self.servers - 1)
        rows = _masses(self.tails * (others[1:] + others[:-1]) / 2)
        irregular = (1 - sizes[-1]) ** 2
        rows[-1] = (1 - irregular) * self.full + irregular * rows[-1]
        return rows

    def arrivals(self, rate: float) -> Array:
        """``[i, n]``: P(n arrivals in i cells)."""
        mean = rate * self.step * np.arange(self.tails.shape[1])
        n = np.arange(int(_most_arrivals(float(mean[-1]))) + len(self.tails) + 2)
        _check_size(len(n) * len(mean))
        with np.errstate(divide="ignore", invalid="ignore"):
            log_p = n * np.log(mean)[:, None] - mean[:, None] - gammaln(n + 1)
        log_p[0] = np.where(n == 0, 0.0, -np.inf)
        table = np.exp(log_p)
        return np.asarray(table / table.sum(axis=1, keepdims=True))


def _most_arrivals(mean: float) -> float:
    """Poisson counts beyond this have no weight."""
    return float(mean + 7.5 * np.sqrt(mean) + 16)


def _decay(full: Array, largest: int) -> float:
    """A theta a little below the rate at which the tail of the jobs left behind falls."""
    n = np.arange(len(full))
    mean, second = float(full @ n), float(full @ n**2)
    theta: float = min(2 * (largest - mean) / max(second - mean**2, 1e-9), 4.0, 600 / len(full))
    while float(full @ np.exp(theta * n - theta * largest)) >= 1:
        theta /= 1.1
    return float(theta)


def _left_behind(counts: Array) -> Array:
    """Stationary law of the number left behind, X' = (X - F)^+ + A, from the laws of A for each batch size."""
    largest, n = len(counts), np.arange(counts.shape[1])
    theta = _decay(counts[-1], largest)
    # On a circle a little outside the unit circle no zero is near; far outside, rounding errors would grow.
    grow = min(theta / 2, 4 / largest)
    size = 2 << int(np.ceil(np.log2(-np.log(TAIL) / grow + 4 * counts.shape[1])))
    _check_size(size * largest)
    z = np.exp(grow - 2j * np.pi * np.arange(size // 2 + 1) / size)
    full = np.fft.rfft(counts[-1] * np.exp(grow * n), size)
    ratio = full / z**largest
    log_factor = np.fft.irfft(np.log1p(-ratio), size)
    # Negative Wiener-Hopf factor: a polynomial in 1/z, whose coefficients are the first passage from F to 0..F-1.
    c = log_factor[-np.arange(1, largest + 1)] * np.exp(grow * np.arange(1, largest + 1))
    e = np.zeros(largest + 1)
    e[0] = 1.0
    for i in range(1, largest + 1):
        e[i] = (np.arange(1, i + 1) * c[:i]) @ e[i - 1 :: -1][:i] / i
    passage = np.maximum(-e[:0:-1], 0.0)
    passage /= passage.sum()
    # First passage below F from F, F + 1, ...; then the chain watched only below F.
    below = np.empty((counts.shape[1], largest))
    below[:largest] = np.eye(largest)
    for j in range(largest, len(below)):
        below[j] = below[j - 1, -1] * passage
        below[j, 1:] += below[j - 1, :-1]
    start = np.maximum(np.arange(largest), 1) - 1
    watched = counts[start] @ below
    system = np.eye(largest) - watched.T
    system[0] = 1.0
    first = np.linalg.solve(system, np.eye(largest)[0])
    numerator = np.fft.rfft((first @ counts[start]) * np.exp(grow * n), size)
    numerator -= ratio * np.fft.rfft(first * np.exp(grow * np.arange(largest)), size)
    left = np.fft.irfft(numerator / (1 - ratio), size) * np.exp(-grow * np.arange(size))
    left = np.maximum(left[: size // 2], 0.0)
    return np.asarray(left / left.sum())
