"""Percentiles and means of responses in compiled loops: what ``queueing.forkjoin`` says, many times faster.

For sweeps over thousands of points; loading numba and compiling take longer than a few answers. Responses without noise
go the ordinary way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recqueue.queueing import forkjoin
from recqueue.queueing.forkjoin import Response, gauss_points, idle_quantiles
from recqueue.queueing.split_queries import SplitQueries

Array = NDArray[np.float64]
Parts = Sequence[tuple[float, Response]]
_EDGES = (0.01, 0.6, 0.97, 1 - 1e-5)
"""Shares between whose percentiles the tail is integrated."""
_MOST_TIMES = 4096
_MEANS: WeakKeyDictionary[Response, float] = WeakKeyDictionary()


def distribution(parts: Parts, t: Array | float) -> Array:
    """As ``recqueue.queueing.forkjoin.distribution``."""
    packed = _packed(parts)
    if packed is None:
        return forkjoin.distribution(parts, t)
    return np.asarray(_mixed(packed, np.reshape(np.asarray(t, dtype=float), -1))).reshape(np.shape(t))


def quantiles(parts: Parts, p: Sequence[float], *, relative: float = 1e-6) -> list[float]:
    """As ``recqueue.queueing.forkjoin.quantiles``."""
    packed = _packed(parts)
    if packed is None:
        return forkjoin.quantiles(parts, p, relative=relative)
    shares = np.asarray(p, dtype=float)
    least = min(response.queries.cv for _, response in parts)
    found: list[float] = _tail_roots(packed, shares, idle_quantiles(parts, p), least > 0, relative).tolist()
    return found


def mean(parts: Parts) -> float:
    """As ``recqueue.queueing.forkjoin.mean``; that of a response is kept as long as the response."""
    return sum(share * _mean(response) for share, response in parts)


def _mean(response: Response) -> float:
    if response not in _MEANS:
        packed, cv = _packed([(1.0, response)]), response.queries.cv
        if packed is None or not response.queries.full.any():
            _MEANS[response] = response.mean
        else:
            nodes, weights = gauss_points(min(48, 10 + int(1 / cv)) if cv else 48)
            guess = idle_quantiles([(1.0, response)], _EDGES)
            _MEANS[response] = float(_integral(packed, np.array(_EDGES), guess, cv > 0, nodes, weights))
    return _MEANS[response]


def prepare() -> None:
    """Compile, or load what was compiled before: once here rather than in each of many processes at the same time."""
    queries = SplitQueries(np.ones(1), np.ones(1, dtype=np.int64), np.ones(1), 1.0, 0.2)
    parts = [(1.0, forkjoin.response(0.1, queries, 2))]
    quantiles(parts, [0.5])
    mean(parts)


class _Packed(NamedTuple):
    """Parts one behind the other: their shares, where each begins in the two arrays, and their tables."""

    shares: Array
    begins: NDArray[np.int64]
    floats: Array
    ints: NDArray[np.int64]
    tables: Array


def _packed(parts: Parts) -> _Packed | None:
    flats = [flat for _, response in parts if (flat := response.flat) is not None]
    if len(flats) < len(parts):
        return None
    shares, ends = np.array([share for share, _ in parts]), [(len(f.floats), len(f.ints)) for f in flats]
    begins = np.concatenate((np.zeros((1, 2), np.int64), np.cumsum(ends, axis=0)))
    floats, ints = (np.concatenate(arrays) for arrays in zip(*(f[:2] for f in flats), strict=True))
    return _Packed(shares, begins, floats, ints, _laws(tuple(f.noise for f in flats)))


@lru_cache(maxsize=32)
def _laws(noises: tuple[tuple[float, ...], ...]) -> Array:
    return np.stack([forkjoin.tables(noise) for noise in noises])


@njit(cache=True, nogil=True)
def _integral(packed, p, guess, smooth, nodes, weights):  # type: ignore[no-untyped-def]
    """Mean of a response: its tail by Gauss points between percentiles."""
    edges = np.zeros(5)
    edges[1:] = _tail_roots(packed, p, guess, smooth, 1e-3)
    n = len(nodes)
    times = np.empty(4 * n)
    for i in range(4):
        for j in range(n):
            times[i * n + j] = edges[i] + (edges[i + 1] - edges[i]) * (nodes[j] + 1) / 2
    passed = _mixed(packed, times)
    total = 0.0
    for i in range(4):
        inside = 0.0
        for j in range(n):
            inside += (1 - passed[i * n + j]) * weights[j]
        total += inside * (edges[i + 1] - edges[i])
    return total / 2


@njit(cache=True, nogil=True)
def _mixed(packed, t):  # type: ignore[no-untyped-def]
    """Distribution function of a mixture at each of ``t``."""
    out = np.zeros(len(t))
    for part in range(len(packed.shares)):
        floats, ints = packed.floats[packed.begins[part, 0] :], packed.ints[packed.begins[part, 1] :]
        at_once = ints[4]
        for begin in range(0, len(t), at_once):
            end = min(begin + at_once, len(t))
            _add(floats, ints, packed.tables[part], packed.shares[part], t[begin:end], out[begin:end])
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _add(floats, ints, tables, share, t, out):  # type: ignore[no-untyped-def]
    """Add ``share`` times the distribution function at ``t``, as ``Response._noisy_cdf`` computes it.

    Level by level inside, where a processor works on several at a time.
    """
    kinds, width, rows, numbers = ints[0], ints[1], ints[2], ints[3]
    probability = floats[2 + kinds :]
    first_starts = floats[2 + 2 * kinds :]
    final_starts, weights = first_starts[width:], first_starts[2 * width :]
    starts = first_starts[3 * width :]
    more_s = starts[rows * width :]
    full_slope = more_s[rows * width :]
    full_intercept = full_slope[rows:]
    low_s = full_intercept[rows * width :]
    high_s = low_s[rows * width :]
    gaps = high_s[rows * width :]
    before_share = gaps[rows:]
    last_starts = before_share[numbers:]
    last_more_s = last_starts[numbers * width :]
    last_slope = last_more_s[numbers:]
    last_intercept = last_slope[kinds:]
    before_low, before_high = ints[5:], ints[5 + numbers :]
    is_split, member = ints[5 + 2 * numbers :], ints[5 + 3 * numbers :]
    table, log_table = tables[0], tables[1]

    earliest, latest = t[0], t[0]
    for i in range(len(t)):
        earliest, latest = min(earliest, t[i]), max(latest, t[i])
    done, stop, below = 0, 0, 0.0
    while done < width and final_starts[done] < earliest - floats[1]:
        below += weights[done]
        done += 1
    while stop < width and first_starts[stop] < latest:
        stop += 1
    levels = max(stop - done, 0)
    up_to, value, last = np.empty(max(rows, 1) * levels), np.empty(levels), np.empty(levels)
    log_left, before, inside = np.empty(levels), np.empty(levels), np.empty(levels)
    scratch = np.empty(levels, np.int64)
    never, surely = log_table[0, 0], log_table[-1, 0]
    for i in range(len(t)):
        # Sum of the logarithms over all sub-requests up to each tabulated one; in between by the trapezoid rule.
        for row in range(rows):
            here = row * width + done
            start, more, low, high = starts[here:], more_s[here:], low_s[here:], high_s[here:]
            begin, end = 0, levels
            while begin < end and t[i] - start[begin] + more[begin] >= high[begin]:
                value[begin] = surely
                begin += 1
            while begin < end and t[i] - start[end - 1] + more[end - 1] <= low[end - 1]:
                value[end - 1] = never
                end -= 1
            for level in range(begin, end):
                log_left[level] = max(t[i] - start[level] + more[level], 1e-300)
            _log(log_left[begin:end], scratch[begin:end])
            slope, intercept = full_slope[row], full_intercept[here:]
            for level in range(begin, end):
                value[level] = _read(log_table, log_left[level] * slope + intercept[level])
            now = up_to[row * levels :]
            if row == 0:
                for level in range(levels):
                    now[level] = value[level]
            else:
                before_now = up_to[(row - 1) * levels :]
                upper, lower = (gaps[row - 1] + 1) / 2, (gaps[row - 1] - 1) / 2
                for level in range(levels):
                    now[level] = before_now[level] + (value[level] * upper + last[level] * lower)
            value, last = last, value
        for level in range(levels):
            inside[level] = 0.0
        number = -1
        for kind in range(kinds):
            if member[kind] != number:
                number = member[kind]
                start, later = last_starts[number * width + done :], last_more_s[number]
                for level in range(levels):
                    log_left[level] = max(t[i] - start[level] + later, 1e-300)
                _log(log_left, scratch)
                if is_split[number]:
                    a, one = before_share[number], up_to[before_low[number] * levels :]
                    other = up_to[before_high[number] * levels :]
                    for level in range(levels):
                        before[level] = (1 - a) * one[level] + a * other[level]
                    _exp(before, scratch)
                else:
                    for level in range(levels):
                        before[level] = 1.0
            p, slope, intercept = probability[kind], last_slope[kind], last_intercept[kind * width + done :]
            for level in range(levels):
                in_time = _read(table, log_left[level] * slope + intercept[level])
                inside[level] += p * (in_time * before[level])
        total = 0.0
        for level in range(levels):
            total += inside[level] * weights[done + level]
        out[i] += share * (below + total)


@njit(cache=True, nogil=True, inline="always")
def _read(table, place):  # type: ignore[no-untyped-def]
    """Value of a table of lines at ``place``; beyond its ends those of the ends."""
    i = np.int32(min(max(place, 0.0), len(table) - 1.0))
    return table[i, 0] + table[i, 1] * place


_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LOG = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip
_EXP = tuple(1 / math.factorial(n) for n in range(14))
_ONE, _ROOT_HALF, _EXPONENT, _BITS = 0x3FF0000000000000, 0x3FE6A09E667F3BCD, 0x7FF0000000000000, 0x4330000000000000


@njit(cache=True, nogil=True, error_model="numpy")
def _log(x, scratch):  # type: ignore[no-untyped-def]
    """Logarithms of positive numbers in place, to an ulp: several at a time, which a call for each does not allow.

    The method and the coefficients are those of fdlibm (Sun Microsystems, 1993).
    """
    bits, exponent = x.view(np.int64), scratch.view(np.float64)
    for i in range(len(x)):
        b = bits[i] - np.int64(_ROOT_HALF) + np.int64(_ONE)
        scratch[i] = np.int64(np.uint64(b) >> np.uint64(52)) | np.int64(_BITS)
        bits[i] = bits[i] - ((b & np.int64(_EXPONENT)) - np.int64(_ONE))
    for i in range(len(x)):
        k = exponent[i] - (4503599627370496.0 + 1023.0)
        f = x[i] - 1.0
        s = f / (2.0 + f)
        z = s * s
        w = z * z
        odd = w * (_LOG[1] + w * (_LOG[3] + w * _LOG[5]))
        even = z * (_LOG[0] + w * (_LOG[2] + w * (_LOG[4] + w * _LOG[6])))
        half = 0.5 * f * f
        x[i] = k * _LN2_HIGH - ((half - (s * (half + (even + odd)) + k * _LN2_LOW)) - f)


@njit(cache=True, nogil=True, error_model="numpy")
def _exp(x, scratch):  # type: ignore[no-untyped-def]
    """Exponentials of numbers up to 0 in place, to an ulp; those below -700 count as that."""
    power = scratch.view(np.float64)
    for i in range(len(x)):
        v = max(x[i], -700.0)
        power[i] = v * 1.4426950408889634 + 6755399441055744.0  # rounds to a whole number, in the last bits
        n = power[i] - 6755399441055744.0
        r = (v - n * _LN2_HIGH) - n * _LN2_LOW
        p = _EXP[7] + r * (_EXP[8] + r * (_EXP[9] + r * (_EXP[10] + r * (_EXP[11] + r * (_EXP[12] + r * _EXP[13])))))
        p = _EXP[2] + r * (_EXP[3] + r * (_EXP[4] + r * (_EXP[5] + r * (_EXP[6] + r * p))))
        x[i] = 1.0 + (r + r * r * p)
    for i in range(len(x)):
        scratch[i] = (scratch[i] + np.int64(1023)) << np.int64(52)
    for i in range(len(x)):
        x[i] = x[i] * power[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _tail_roots(packed, p, guess, smooth, relative):  # type: ignore[no-untyped-def]
    """:func:`recqueue.queueing.tail_roots.tail_roots` of the mixture, step by step."""
    n, first, last = len(p), guess[0], guess[0]
    for one in guess:
        first, last = min(first, one), max(last, one)
    wanted = np.empty(8 + 13 * n)
    many = 6 + 2 * n
    first, last = math.log10(0.85 * first), math.log10(3.0 * last)
    for i in range(many):
        wanted[i] = 10.0 ** (first + i * ((last - first) / (many - 1)))
    t, g = np.empty(_MOST_TIMES), np.empty(_MOST_TIMES)
    t[0], g[0] = 0.0, 0.0
    known = 1
    goals, found, widths = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        goals[i], found[i], widths[i] = math.log1p(-p[i]) + relative, np.nan, np.inf
    for _ in range(100):
        known = _merge(t, g, known, wanted[:many], _mixed(packed, wanted[:many]))
        many = 0
        for i in range(n):
            if not math.isnan(found[i]):
                continue
            goal = goals[i]
            high = 0
            while high < known and g[high] > goal:
                high += 1
            if high == known:
                for factor in (1.3, 1.8, 2.6, 4.0):
                    wanted[many] = t[known - 1] * factor
                    many += 1
                continue
            low, width = t[high - 1], t[high] - t[high - 1]
            if width <= relative * low or goal - g[high] < relative / 2:
                found[i] = t[high]
            elif high > 1 and g[high - 1] - goal < relative / 2:
                found[i] = low
            elif not smooth or width > widths[i] / 3:
                widths[i] = np.inf
                for part in range(1, 12):
                    wanted[many] = low + width * part / 12
                    many += 1
                wanted[many] = min(max(_inverse(t, g, known, high, goal)[0], low), t[high])
                many += 1
            else:
                widths[i] = width
                one, other = _inverse(t, g, known, high, goal)
                if smooth and width < 2e-3 * low and 0 < abs(one - other) < relative * low:
                    found[i] = (one + other) / 2
                    continue
                share = min(max(((one + other) / 2 - low) / width, 0.01), 0.99)
                wanted[many] = low + width * max(share - 0.04, share / 2)
                wanted[many + 1] = low + width * share
                wanted[many + 2] = low + width * min(share + 0.04, (share + 1) / 2)
                many += 3
        if many == 0 or known + len(wanted) > _MOST_TIMES:
            break
        for i in range(1, many):  # ascending
            one, j = wanted[i], i
            while j > 0 and wanted[j - 1] > one:
                wanted[j] = wanted[j - 1]
                j -= 1
            wanted[j] = one
    return found


@njit(cache=True, nogil=True)
def _merge(t, g, known, new, passed):  # type: ignore[no-untyped-def]
    """Put the logarithm of the tail at ascending ``new`` times among the known ones; how many there are then."""
    total, i, j = known + len(new), known - 1, len(new) - 1
    for k in range(total - 1, -1, -1):
        if j >= 0 and (i < 0 or t[i] <= new[j]):
            t[k], g[k] = new[j], math.log(max(1.0 - passed[j], 1e-14))
            j -= 1
        else:
            t[k], g[k] = t[i], g[i]
            i -= 1
    for k in range(1, total):
        g[k] = min(g[k], g[k - 1])
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse(t, g, known, high, goal):  # type: ignore[no-untyped-def]
    low = high - 1
    slope = (t[high] - t[low]) / (g[high] - g[low])
    line = t[low] + slope * (goal - g[low])
    below = _bent(t, g, known, high, goal, slope, line, low - 1)
    return below, _bent(t, g, known, high, goal, slope, line, high + 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _bent(t, g, known, high, goal, slope, line, third):  # type: ignore[no-untyped-def]
    low = high - 1
    if not 0 <= third < known or g[third] == g[low] or g[third] == g[high]:
        return line
    bend = ((t[third] - t[high]) / (g[third] - g[high]) - slope) / (g[third] - g[low])
    return line + bend * (goal - g[low]) * (goal - g[high])
