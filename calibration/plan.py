"""What a campaign measures, fixed before anything is measured: policies, loads, which are fitted, rounds, their order.

A machine with other guests is quick at one moment and slow at another. So no policy is measured in one piece: a
campaign goes round ``ROUNDS`` times through *all* its runs, fitted and held-out ones alike, each time in another random
order. Each run of a round is a *segment*; the segments of a policy at a load, half a minute apart, make one
measurement. All policies and both halves thus see the same weather, and a measurement sees it several times.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.insitu import OVERHEAD_S
from recqueue.errors import InputError


@dataclass(frozen=True)
class Configuration:
    """A policy of the live server."""

    batch_size: int
    offload_threshold: int | None = None
    max_fused_queries: int = 1

    def __str__(self) -> str:
        far = "" if self.offload_threshold is None else f"/{self.offload_threshold}/{self.max_fused_queries}"
        return f"{self.batch_size}{far}"

    @classmethod
    def parse(cls, text: str) -> Configuration:
        """Read ``BATCH`` or ``BATCH/THRESHOLD/FUSED``.

        Raises
        ------
        InputError
            When it is neither.
        """
        numbers = text.split("/")
        if len(numbers) not in (1, 3) or not all(n.isdecimal() and int(n) > 0 for n in numbers):
            raise InputError(f"configuration {text!r}; expected BATCH or BATCH/THRESHOLD/FUSED, such as 128/300/4")
        return cls(*map(int, numbers))


FIT = tuple(map(Configuration.parse, ("25", "128", "1000", "128/300/1", "64/500/16", "1000/300/4")))
HELD_OUT = tuple(map(Configuration.parse, ("64", "256", "64/300/4", "256/300/16")))
LOADS = {"held-out": (0.5, 0.7, 0.8, 0.9), "fit": (0.5, 0.8)}
"""Share of a configuration's capacity that is offered."""
ROUNDS = 6
"""How often each run is made; the spread over so many segments gives the interval of a measurement."""
WEIGHT = {0.5: 0.7, 0.7: 1.2, 0.8: 2.4, 0.9: 4.5}
"""Share of the time that a run gets: the fuller a server, the longer its memory and the more a drift does to it."""
EVERY = {0.9: 2}
"""Loads whose runs are made in every so many rounds only, and as much longer: a queue that a slow moment has filled at
90 % load takes seconds to empty, and a run that begins with an empty one must last several times that."""
FIT_WEIGHT = 0.4
"""The same for the fitting half: a service is known after far fewer queries than a 95th percentile."""
SHORTEST_S, FEWEST = 0.3, 60
"""Least seconds and queries of a segment, on average."""
SKIPPED = 0.2
"""Share of a segment's queries, the first ones, that are not counted: its queue was empty when it began."""
MODEL_WEIGHT = {"ncf": 0.6, "dlrm-rmc1": 0.9, "din": 1.3, "dlrm-rmc2": 1.4}
"""Share of the time that a model gets, 1 if not named: a slow model needs longer for as many queries."""
EXPLORED = {"fit": tuple(map(Configuration.parse, ("128", "64/500/16"))), "held-out": (Configuration(64),)}
EXPLORED_LOADS = (0.5, 0.8)
EXPLORED_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What to run."""

    names: Sequence[str]
    seconds: float
    device: str | None = "cuda"
    workers: int | None = None
    explore: bool = False
    configurations: Sequence[Configuration] = ()
    rounds: int | None = None
    table_scale: float = 1.0

    @property
    def splits(self) -> dict[str, tuple[Configuration, ...]]:
        """Configurations by the half that they belong to, without those that need an accelerator if there is none."""
        chosen = {"fit": FIT, "held-out": HELD_OUT}
        if self.configurations:
            chosen = {"other": tuple(c for c in self.configurations if c not in FIT + HELD_OUT)} | {
                split: tuple(c for c in half if c in self.configurations) for split, half in chosen.items()
            }
        elif self.explore:
            chosen = EXPLORED
        return {
            split: tuple(c for c in half if self.device or c.offload_threshold is None)
            for split, half in chosen.items()
        }

    @property
    def how_often(self) -> int:
        """Rounds."""
        return self.rounds or (EXPLORED_ROUNDS if self.explore else ROUNDS)


@dataclass(frozen=True)
class Planned:
    """A run that every round, or every second one, makes once."""

    split: str
    configuration: Configuration
    load: float

    @property
    def weight(self) -> float:
        """Share of the time, beside those of others."""
        return WEIGHT[self.load] * (FIT_WEIGHT if self.split == "fit" else 1.0) * EVERY.get(self.load, 1)


def planned(campaign: Campaign) -> list[Planned]:
    """All runs of a campaign."""
    return [
        Planned(split, configuration, load)
        for split, half in campaign.splits.items()
        for load in (EXPLORED_LOADS if campaign.explore else LOADS["fit" if split == "fit" else "held-out"])
        for configuration in half
    ]


def in_order(runs: Sequence[Planned], model: str, number: int, rounds: int) -> list[Planned]:
    """The runs of a round in its order: random, the same whenever the campaign of this model is repeated.

    Those that are not made in every round are spread evenly over them.
    """
    rng = np.random.default_rng([zlib.crc32(model.encode()), number])
    mine = [r for i, r in enumerate(runs) if (i + number) % min(EVERY.get(r.load, 1), rounds) == 0]
    return [mine[i] for i in rng.permutation(len(mine))]


def dealt(count: int, rounds: int, seed: int) -> list[list[int]]:
    """The numbers below ``count`` in random order, dealt out to the rounds."""
    order = np.random.default_rng(seed).permutation(count).tolist()
    return [order[i::rounds] for i in range(rounds)]


def seconds_of(run: Planned, unit_s: float, qps: float, most: int) -> float:
    """Length of a segment: its share in units, no more queries than fit on the board."""
    return min(max(unit_s * run.weight, SHORTEST_S, FEWEST / qps), most / qps)


def round_of(runs: Sequence[Planned], rates: Sequence[float], unit_s: float) -> float:
    """Seconds of a round on average; a run that is not made in every round counts with its mean."""
    return sum((seconds_of(r, unit_s, qps, 1 << 60) + OVERHEAD_S) / EVERY.get(r.load, 1)
               for r, qps in zip(runs, rates, strict=True))  # fmt: skip


def unit_of(runs: Sequence[Planned], rates: Sequence[float], left_s: float) -> float:
    """Seconds of a unit of weight, so that a round through these runs takes as long as there is.

    A segment has a least length, and so this is found by bisection.
    """
    low, high = 0.0, max(left_s, 0.0)
    for _ in range(60):
        unit = (low + high) / 2
        low, high = (unit, high) if round_of(runs, rates, unit) < left_s else (low, unit)
    return low
