"""How the law of a non-negative time is represented: closed forms where they exist, a grid where they do not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import comb, factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln, xlogy

Array = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


class Law(ABC):
    """A law of X >= 0, given by its tail; the integrals have a quadrature unless the law knows better."""

    @abstractmethod
    def tail(self, t: Array) -> Array:
        """P(X > t) for t >= 0, in the shape of ``t``."""

    @property
    @abstractmethod
    def scale_s(self) -> float:
        """A length of the order of the values of X, above 0: where to begin to look."""

    @property
    def breaks_s(self) -> Array:
        """Points at which the tail jumps or bends, for quadrature."""
        return np.empty(0)

    @cached_property
    def _panels(self) -> Array:
        """Edges between which the tail is smooth, geometric from 0 to where it has vanished."""
        end = self.scale_s
        for _ in range(200):
            if self.tail(np.array([end]))[0] < 1e-25:
                break
            end *= 1.5
        edges = np.concatenate(([0.0], np.geomspace(self.scale_s * 1e-7, end, 360), self.breaks_s))
        return np.unique(edges[edges <= end])

    def low_s(self, share: float) -> float:
        """About the time by which ``share`` of the values above 0 has passed: how finely the law must be cut."""
        tail = self.tail(self._panels)
        return float(self._panels[max(1, int(np.argmax(tail <= (1 - share) * tail[0])))])

    def _quadrature(self, edges: Array) -> tuple[Array, Array]:
        """Nodes and weights between the edges, shape (panels, nodes)."""
        half = np.diff(edges)[:, None] / 2
        return edges[:-1, None] + half * (1 + _NODES), half * _WEIGHTS

    def moment(self, n: int) -> float:
        r""":math:`E X^n = \int n t^{n-1} P(X > t)\,dt`."""
        t, w = self._quadrature(self._panels)
        return float(np.sum(w * n * t ** (n - 1) * self.tail(t)))

    def limited_mean(self, t: Array) -> Array:
        r""":math:`E \min(X, t) = \int_0^t P(X > u)\,du`, in the shape of ``t``."""
        return self._limited(t, 1)

    def limited_square(self, t: Array) -> Array:
        r""":math:`E \min(X, t)^2 = 2 \int_0^t u P(X > u)\,du`, in the shape of ``t``."""
        return self._limited(t, 2)

    def _limited(self, t: Array, n: int) -> Array:
        t = np.asarray(t, dtype=float)
        edges = np.unique(np.concatenate((self._panels, t.reshape(-1), [0.0])))
        u, w = self._quadrature(edges)
        upto = np.concatenate(([0.0], np.cumsum(np.sum(w * n * u ** (n - 1) * self.tail(u), axis=1))))
        return np.asarray(upto[np.searchsorted(edges, t)])

    def laplace(self, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        r""":math:`E e^{-sX}` for complex s with non-negative real part, in the shape of ``s``."""
        s = np.asarray(s, dtype=complex)
        t, w = (a.reshape(-1) for a in self._quadrature(self._panels))
        weighted = w * self.tail(t)
        flat = s.reshape(-1)
        out = np.empty(flat.shape, dtype=complex)
        for i in range(0, len(flat), 256):
            out[i : i + 256] = 1 - flat[i : i + 256] * (np.exp(-flat[i : i + 256, None] * t) @ weighted)
        return out.reshape(s.shape)


@dataclass(frozen=True, eq=False)
class Discrete(Law):
    """Finitely many values, ascending, with probabilities that add up to 1."""

    values_s: Array
    probability: Array

    @cached_property
    def _left(self) -> Array:
        """Probability above each number of values."""
        return np.concatenate((np.cumsum(self.probability[::-1])[::-1], [0.0]))

    def tail(self, t: Array) -> Array:
        """P(X > t); a value counts as reached within a rounding error."""
        return np.asarray(self._left[np.searchsorted(self.values_s, np.asarray(t) * (1 + 1e-12), side="right")])

    @property
    def scale_s(self) -> float:
        """The mean, or 1 for a constant 0."""
        return self.moment(1) or 1.0

    @property
    def breaks_s(self) -> Array:
        """The values."""
        return self.values_s

    def moment(self, n: int) -> float:
        """Sum over the values."""
        return float(self.probability @ self.values_s**n)

    def limited_mean(self, t: Array) -> Array:
        """Sum over the values."""
        i = np.searchsorted(self.values_s, t, side="right")
        below = np.concatenate(([0.0], np.cumsum(self.probability * self.values_s)))
        return np.asarray(below[i] + np.asarray(t) * self._left[i])

    def limited_square(self, t: Array) -> Array:
        """Sum over the values."""
        i = np.searchsorted(self.values_s, t, side="right")
        below = np.concatenate(([0.0], np.cumsum(self.probability * self.values_s**2)))
        return np.asarray(below[i] + np.asarray(t) ** 2 * self._left[i])

    def laplace(self, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Sum over the values."""
        return np.asarray(np.exp(-np.asarray(s)[..., None] * self.values_s) @ self.probability)


@dataclass(frozen=True, eq=False)
class ErlangMixture(Law):
    r"""Erlang laws of one rate, :math:`\sum_n w_n \mathrm{Erlang}(n, r)`; ``weights[0]`` is an atom at 0.

    With ``ratio`` above 0 the weights go on geometrically from the last one.
    """

    weights: Array
    rate: float
    ratio: float = 0.0

    @cached_property
    def _above(self) -> list[Array]:
        """P(number of stages > j), then its sums over all larger j, then theirs; geometric from the last entry on."""
        beyond = self.weights[-1] * self.ratio / (1 - self.ratio)
        found = [np.append(np.cumsum(self.weights[:0:-1])[::-1] + beyond, beyond)]
        for _ in range(2):
            last = found[-1][-1] / (1 - self.ratio)
            found.append(np.append(np.cumsum(found[-1][-2::-1])[::-1] + last, last))
        return found

    def _poisson_mean(self, t: Array, coefficients: Array) -> Array:
        r""":math:`\sum_j c_j e^{-rt} (rt)^j / j!`, over the j that matter; the geometric part in closed form."""
        t = np.asarray(t, dtype=float)
        x = self.rate * t.reshape(-1)
        last = len(self.weights) - 1
        first_part, closed = coefficients[:last], self.ratio > 0
        if closed and -last * np.log(self.ratio) > 600:  # the closed form would overflow; the few terms then do not
            more = int(np.ceil(37 / -np.log(self.ratio)))
            first_part = np.append(first_part, coefficients[last] * self.ratio ** np.arange(more))
            closed = False
        out = np.zeros(len(x))
        if len(first_part) > 0:
            for some in np.array_split(np.argsort(x), max(1, len(x) // 64)):
                low, high = (x[i] + sign * (9 * np.sqrt(x[i]) + 30) for i, sign in ((some[0], -1), (some[-1], 1)))
                j = np.arange(max(0, int(low)), min(int(high), len(first_part)))
                if len(j) > 0:
                    poisson = np.exp(xlogy(j, x[some, None]) - x[some, None] - gammaln(j + 1))
                    out[some] = poisson @ first_part[j]
        if closed:
            reached = gammainc(last, self.ratio * x) if last > 0 else 1.0  # Poisson count of at least `last`
            out += coefficients[last] * self.ratio**-last * np.exp(-x * (1 - self.ratio)) * reached
        return out.reshape(t.shape)

    def tail(self, t: Array) -> Array:
        r""":math:`\sum_j P(N > j)\, e^{-rt} (rt)^j / j!`."""
        return self._poisson_mean(t, self._above[0])

    def limited_mean(self, t: Array) -> Array:
        """Mean less the integral of the tail beyond t."""
        return np.asarray(self.moment(1) - self._poisson_mean(t, self._above[1]) / self.rate)

    def limited_square(self, t: Array) -> Array:
        """Second moment less what lies beyond t, by parts."""
        once, twice = (self._poisson_mean(t, above) for above in self._above[1:])
        return np.asarray(self.moment(2) - 2 * (np.asarray(t) * once + twice / self.rate) / self.rate)

    @property
    def scale_s(self) -> float:
        """The mean, or one stage."""
        return self.moment(1) or 1 / self.rate

    def moment(self, n: int) -> float:
        """Rising factorials of the number of stages; the geometric part is an Erlang and an exponential time."""
        stages = np.arange(len(self.weights), dtype=float)

        def rising(of: Any, m: int) -> Any:
            return np.prod([of + i for i in range(m)], axis=0)

        total = float(self.weights @ rising(stages, n)) / self.rate**n
        if self.ratio > 0:
            slow, last = self.rate * (1 - self.ratio), float(len(self.weights) - 1)
            parts = (
                comb(n, m) * rising(last, m) / self.rate**m * factorial(n - m) / slow ** (n - m) for m in range(n + 1)
            )
            total += float(self._above[0][-1] * sum(parts))
        return total

    def laplace(self, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Polynomial in r / (r + s), closed by a geometric series."""
        z = self.rate / (self.rate + np.asarray(s, dtype=complex))
        value = np.polynomial.polynomial.polyval(z, self.weights)
        last = len(self.weights) - 1
        return np.asarray(value + self.weights[-1] * z**last * self.ratio * z / (1 - self.ratio * z))


@dataclass(frozen=True, eq=False)
class PhaseType(Law):
    """Time to absorption of a Markov chain: initial probabilities ``alpha`` (rest: 0 s), generator ``matrix``."""

    alpha: Array
    matrix: Array

    @cached_property
    def _step_s(self) -> float:
        return 0.5 / float(np.max(-np.diag(self.matrix)))

    @cached_property
    def _powers(self) -> list[Array]:
        """exp(matrix x step x 2^j); grows as longer times are asked for."""
        h, n = self._step_s, len(self.alpha)
        uniform, term, total = np.eye(n) + self.matrix * h, np.eye(n), np.eye(n)
        for i in range(1, 40):  # uniformization over h: all terms are non-negative, so nothing cancels
            term = term @ uniform / i
            total += term
        return [total * np.exp(-1.0)]

    def _state(self, t: Array) -> Array:
        """Probabilities of the phases after each time, shape (times, phases); stable because all is non-negative."""
        steps = np.floor(t / self._step_s)
        rest = t - steps * self._step_s
        state: Array = np.tile(self.alpha, (len(t), 1))
        uniform = np.eye(len(self.alpha)) + self.matrix * self._step_s
        x = rest[:, None] / self._step_s
        term, total = state.copy(), state.copy()
        for i in range(1, 24):
            term = (term @ uniform) * (x / i)
            total += term
        state = total * np.exp(-x)
        j = 0
        while np.any(steps > 0):
            if len(self._powers) == j:
                self._powers.append(self._powers[-1] @ self._powers[-1])
            odd = steps % 2 == 1
            if np.any(odd):
                state[odd] = state[odd] @ self._powers[j]
            steps, j = np.floor(steps / 2), j + 1
        return state

    def _weighted(self, t: Array, weight: Array) -> Array:
        flat: Array = np.minimum(np.asarray(t, dtype=float).reshape(-1), 1e15 * self._step_s)
        return np.asarray(self._state(flat) @ weight).reshape(np.shape(t))

    def tail(self, t: Array) -> Array:
        """Mass not yet absorbed."""
        return self._weighted(t, np.ones(len(self.alpha)))

    @cached_property
    def scale_s(self) -> float:
        """The mean, or one visit."""
        return self.moment(1) or self._step_s

    def moment(self, n: int) -> float:
        r""":math:`n!\,\alpha (-T)^{-n} 1`."""
        v: Array = np.ones(len(self.alpha))
        for i in range(1, n + 1):
            v = np.asarray(i * np.linalg.solve(-self.matrix, v), dtype=float)
        return float(self.alpha @ v)

    def limited_mean(self, t: Array) -> Array:
        """Mean absorption time less what is left of it at t."""
        left: Array = np.asarray(np.linalg.solve(-self.matrix, np.ones(len(self.alpha))), dtype=float)
        return np.asarray(self.alpha @ left - self._weighted(t, left))

    def limited_square(self, t: Array) -> Array:
        """By parts, from the state at t."""
        once: Array = np.asarray(np.linalg.solve(-self.matrix, np.ones(len(self.alpha))), dtype=float)
        twice: Array = np.asarray(np.linalg.solve(-self.matrix, once), dtype=float)
        left = self._weighted(t, twice) + np.asarray(t) * self._weighted(t, once)
        return np.asarray(2 * (self.alpha @ twice - left))

    def laplace(self, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        r""":math:`1 - \alpha 1 + \alpha (sI - T)^{-1} (-T 1)`."""
        s = np.asarray(s, dtype=complex)
        leave = -self.matrix.sum(axis=1)
        shifted = s[..., None, None] * np.eye(len(self.alpha)) - self.matrix
        solved = np.linalg.solve(shifted, np.broadcast_to(leave[:, None], (*s.shape, len(leave), 1)))[..., 0]
        return np.asarray(1 - self.alpha.sum() + solved @ self.alpha)


@dataclass(frozen=True, eq=False)
class Grid(Law):
    """Tail on ascending times from 0, linear in between, falling at ``decay_per_s`` beyond (0: nothing beyond).

    ``moments`` holds E X, E X^2, ... where they are known better than the grid knows them.
    """

    times_s: Array
    values: Array
    decay_per_s: float = 0.0
    moments: tuple[float, ...] = ()

    def tail(self, t: Array) -> Array:
        """Linear interpolation."""
        inside = np.interp(t, self.times_s, self.values)
        end = self.times_s[-1]
        beyond = np.exp(-self.decay_per_s * np.maximum(t - end, 0.0)) if self.decay_per_s > 0 else 0.0
        return np.asarray(np.where(np.asarray(t) > end, self.values[-1] * beyond, inside))

    @cached_property
    def scale_s(self) -> float:
        """The mean, or the first step."""
        return self.moment(1) or float(self.times_s[1])

    @property
    def breaks_s(self) -> Array:
        """The end."""
        return self.times_s[-1:]

    @cached_property
    def _upto(self) -> Array:
        areas = (self.values[1:] + self.values[:-1]) / 2 * np.diff(self.times_s)
        return np.concatenate(([0.0], np.cumsum(areas)))

    def moment(self, n: int) -> float:
        """As given, else by integration of the linear pieces."""
        if n <= len(self.moments):
            return self.moments[n - 1]
        t, w = np.array([-1.0, 1.0]) / np.sqrt(3), 0.5
        mid, half = (self.times_s[1:] + self.times_s[:-1]) / 2, np.diff(self.times_s) / 2
        total = sum(
            float(np.sum(2 * half * w * n * (mid + half * x) ** (n - 1) * self.tail(mid + half * x))) for x in t
        )
        if self.decay_per_s > 0:
            end, falling = self.times_s[-1], 1.0
            for i in range(n):  # n (end + y)^(n-1) against exp(-decay y)
                falling *= (n - i) / self.decay_per_s
                total += self.values[-1] * falling * end ** (n - 1 - i)
        return float(total)

    def limited_mean(self, t: Array) -> Array:
        """Integral of the linear pieces, exactly."""
        t = np.asarray(t, dtype=float)
        i = np.clip(np.searchsorted(self.times_s, t, side="right") - 1, 0, len(self.times_s) - 1)
        past = np.minimum(t, self.times_s[-1]) - self.times_s[i]
        inside = self._upto[i] + past * (self.values[i] + self.tail(np.minimum(t, self.times_s[-1]))) / 2
        if self.decay_per_s > 0:
            far = np.maximum(t - self.times_s[-1], 0.0)
            inside = inside - self.values[-1] * np.expm1(-self.decay_per_s * far) / self.decay_per_s
        return np.asarray(inside)
