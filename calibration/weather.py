r"""How the speed of a machine drifts, from the speeds of short windows of its runs.

The speed of a window is the time that its services took over the time that they should have taken. It is known for
two halves of the workers, so that the covariance

.. math:: C(h) = \mathrm{E}\bigl[(a_t - 1)(b_{t+h} - 1)\bigr]

of one half at t with the *other* half h later holds no noise of single services, only what the machine does to all of
them. A factor that is drawn anew after exponential times has :math:`C(h) = \sigma^2 e^{-h/\tau}`; windows of length w
average over it, which gives

.. math::

   C(h) = \sigma^2 e^{-h/\tau} \Bigl(\frac{\sinh(w/2\tau)}{w/2\tau}\Bigr)^{\!2}, \qquad h \ge w.

It is fitted to the covariances at lags from w (within a window both halves share every stall, however short) up to
``LONGEST_S``, each half octave of lags weighing by the root of its pairs of windows. The law is that of the window
speeds, drawn together to the standard deviation found. Windows are as short as most of them hold enough services.

What a kind of run is always slower or quicker than expected is an error of the service times, no drift: where a kind
has several segments, their mean is taken out, and the variance that goes with it is given back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.windows import WINDOW_S
from recqueue.profiles import Drift

FACTORS = 7
"""Equally likely factors that stand for the law."""
LEAST = 3
"""Services in each half of a window from which it counts."""
WIDER, MOST = (1, 2, 4, 8, 16), 0.5
"""How many windows may be taken together, and the share of windows of a campaign that has to count."""
SEVERAL = 4
"""Segments of a kind from which their mean can be told from the drift."""
LONGEST_S = 12.8
LAST_S = 30.0
"""From a window to this the time that a factor lasts is looked for; what is shorter is noise of services."""
SMALLEST = 0.005
"""A standard deviation below which there is no drift worth a parameter."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Services in the windows of a run, in two halves of the workers.

    Attributes
    ----------
    began_s : float
        When the run began.
    kind : str
        What other runs share with it.
    seconds, expected, count : numpy.ndarray
        What the services of each window and half took, what they should have taken, and how many they were; shape
        (windows, 2).
    """

    began_s: float
    kind: str
    seconds: NDArray[np.float64]
    expected: NDArray[np.float64]
    count: NDArray[np.float64]

    @cached_property
    def speed(self) -> NDArray[np.float64]:
        """Of each window and half, 1 where there is nothing."""
        return np.divide(self.seconds, self.expected, out=np.ones_like(self.expected), where=self.expected > 0)

    def widened(self, by: int) -> Stretch:
        """The same with so many windows as one."""
        parts = [np.pad(x, ((0, -len(x) % by), (0, 0))).reshape(-1, by, 2).sum(axis=1)
                 for x in (self.seconds, self.expected, self.count)]  # fmt: skip
        return Stretch(self.began_s, self.kind, *parts)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Windows in which both halves say something."""
        return np.asarray((self.count >= LEAST).all(axis=1))

    @property
    def mean(self) -> float:
        """Mean speed, each window by its services."""
        ok = self.usable
        return float(np.average(self.speed[ok].mean(axis=1), weights=self.count[ok].sum(axis=1)))


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Drift of a machine as it was seen.

    Attributes
    ----------
    sd : float
        Standard deviation of the factor.
    lasting_s : float
        Seconds that a factor stays in the mean.
    law : tuple of float
        Equally likely factors of mean 1 with that deviation.
    lag_s, covariance, pairs : tuple of float
        The covariances and how many pairs of windows each is the mean of.
    within : float
        Standard deviation within a run, over windows: the common part of what is not the same throughout it.
    """

    sd: float
    lasting_s: float
    law: tuple[float, ...]
    lag_s: tuple[float, ...]
    covariance: tuple[float, ...]
    pairs: tuple[float, ...]
    within: float

    @property
    def known(self) -> bool:
        """Whether there were enough services to tell."""
        return bool(self.lag_s)

    @property
    def drift(self) -> Drift | None:
        """As a parameter of a system; None where it is not worth one."""
        return Drift(factor=self.law, lasting_s=self.lasting_s) if self.sd >= SMALLEST else None

    def within_run(self, seconds: float) -> float:
        """Variance of the factor within a run of this length, on average."""
        x = seconds / self.lasting_s
        return self.sd**2 * (1 - 2 * (x - 1 + np.exp(-x)) / x**2) if x > 0 else 0.0


CALM = Weather(sd=0.0, lasting_s=1.0, law=(1.0,), lag_s=(), covariance=(), pairs=(), within=0.0)
"""No drift, or nothing known of it."""


def weather(stretches: Sequence[Stretch]) -> Weather:
    """Drift from the stretches of a campaign."""
    for wide in WIDER:
        kept, width = [s.widened(wide) for s in stretches], wide * WINDOW_S
        if sum(s.usable.sum() for s in kept) >= MOST * sum(s.count.any(axis=1).sum() for s in kept):
            break
    kept = [s for s in kept if s.usable.sum() >= 2]
    if not kept:
        return CALM
    kinds: dict[str, list[Stretch]] = defaultdict(list)
    for s in kept:
        kinds[s.kind].append(s)
    lost, apart = [], {}
    for kind, mine in kinds.items():
        means = np.array([s.mean for s in mine])
        apart[kind] = float(means.mean()) if len(mine) >= SEVERAL else 1.0
        if len(mine) >= SEVERAL:
            lost += [float(means.var(ddof=1)) / len(mine)] * sum(int(s.usable.sum()) for s in mine)
        else:
            lost += [0.0] * sum(int(s.usable.sum()) for s in mine)
    halves, weight, run = _timeline(kept, apart, width)
    lags, covariance, pairs = _covariances(halves, weight, run, float(np.mean(lost)), width)
    if not len(lags):
        return CALM
    sd, lasting = _fit(lags, covariance, pairs, width)
    inside, _ = _timeline(kept, {}, width, centred=True)[:2]
    both = np.isfinite(inside).all(axis=0)
    within = float(np.sqrt(max(float(np.mean(inside[0, both] * inside[1, both])), 0.0)))
    return Weather(sd=sd, lasting_s=lasting, law=_law(halves, weight, sd), within=within, lag_s=tuple(lags.tolist()),
                   covariance=tuple(covariance.tolist()), pairs=tuple(pairs.tolist()))  # fmt: skip


def _timeline(
    stretches: Sequence[Stretch], apart: dict[str, float], width: float, *, centred: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Speeds less 1 on one clock, shape (2, windows), NaN where nothing is known; their weights; the runs."""
    at = [round(s.began_s / width) for s in stretches]
    end = max(b + len(s.speed) for b, s in zip(at, stretches, strict=True))
    halves, weight, run = np.full((2, end), np.nan), np.zeros(end), np.full(end, -1)
    for number, (begin, s) in enumerate(zip(at, stretches, strict=True)):
        ok, mine = s.usable, slice(begin, begin + len(s.speed))
        mean = s.mean if centred else apart.get(s.kind, 1.0)
        halves[:, mine] = np.where(ok[:, None], s.speed / mean - 1, np.nan).T
        count = s.count.min(axis=1)
        weight[mine] = np.where(ok, count / (count + 20), 0.0)  # more services than that say hardly more
        run[mine] = number
    return halves, weight, run


def _covariances(
    halves: NDArray[np.float64], weight: NDArray[np.float64], run: NDArray[np.int64], lost: float, width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lags, covariances across the halves and weights, a few lags of each octave."""
    a, b = np.nan_to_num(halves)
    total = halves.shape[1]
    steps = np.unique(np.round(np.concatenate(([1], 2 ** np.arange(1, np.log2(LONGEST_S / width) + 0.1, 0.5)))))
    found = []
    for first, after in zip(steps[:-1].astype(int), steps[1:].astype(int), strict=True):
        sums, much, middle = 0.0, 0.0, []
        for lag in range(first, after):
            if lag >= total:
                break
            early, late = slice(0, total - lag), slice(lag, total)
            w = weight[early] * weight[late]
            product = (a[early] * b[late] + b[early] * a[late]) / 2
            sums += float((w * (product + lost * (run[early] == run[late]))).sum())
            much += float(w.sum())
            middle.append(lag * width)
        if much > 5:
            found.append((float(np.mean(middle)), sums / much, much))
    lags, covariance, pairs = np.array(found).reshape(-1, 3).T
    return lags, covariance, pairs


def _curve(lags: NDArray[np.float64], lasting: float, width: float) -> NDArray[np.float64]:
    """Autocovariance of window means for a deviation of 1."""
    x = width / lasting
    return np.asarray(np.exp(-lags / lasting) * (np.sinh(x / 2) / (x / 2)) ** 2)


def _fit(
    lags: NDArray[np.float64], covariance: NDArray[np.float64], pairs: NDArray[np.float64], width: float
) -> tuple[float, float]:
    """Deviation and lasting time by weighted least squares over a grid of times."""
    weight, best = np.sqrt(pairs), (np.inf, 0.0, 1.0)
    for lasting in np.geomspace(width, LAST_S, 150):
        curve = _curve(lags, lasting, width)
        variance = max(float((weight * curve * covariance).sum() / (weight * curve**2).sum()), 0.0)
        left = float((weight * (covariance - variance * curve) ** 2).sum())
        best = min(best, (left, variance, float(lasting)))
    return float(np.sqrt(best[1])), best[2]


def _law(halves: NDArray[np.float64], weight: NDArray[np.float64], sd: float) -> tuple[float, ...]:
    """Equally likely factors: those of the windows in order, drawn together to the deviation without noise."""
    known = np.isfinite(halves).all(axis=0) & (weight >= 0.5 * weight.max())
    every = np.sort(halves[:, known].mean(axis=0))
    middle = np.array([part.mean() for part in np.array_split(every, FACTORS)])
    middle -= middle.mean()
    spread = float(middle.std())
    return tuple((1 + middle * (sd / spread if spread > 0 else 0.0)).tolist())
