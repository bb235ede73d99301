"""A sweep from its points to its table: on any executor, kept whatever happens, never computed twice."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from recqueue.errors import InputError
from recqueue.sweep import table
from recqueue.sweep.farm import Farm
from recqueue.sweep.grid import Axis, size
from recqueue.sweep.journal import Journal, gaps
from recqueue.sweep.points import (
    FAST,
    Block,
    Inner,
    Method,
    Options,
    Structure,
    Task,
    compute,
    figures_of,
    pieces,
    words_of,
)

_AT_ONCE = {"evaluate": 1000, "max-rate": 40, "simulate": 1, "optimize": 1}
"""Points of a task: some seconds of work at most, so that a task costs little beside it and a lost worker too."""
_FEW = {"evaluate": 200, "max-rate": 20, "simulate": 1, "optimize": 1}
"""Points that are not worth processes of their own."""
_MANY = 2000
"""Points from which on compiled loops are worth loading."""
_MOST_STRUCTURES = 50
"""Machines with their workload that one task carries."""
_TASKS_EACH = 4
"""A small sweep is cut into so many tasks for each worker, so that all of them end at about the same time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """A grid of points and what to do at each of them.

    Attributes
    ----------
    axes : tuple of Axis
        What varies, as the table has it: the last one fastest.
    structures : sequence of Structure
        Machine and workload for each combination of the axes that change them, in the order of ``axes``.
    inner : Inner
        Values of the other axes.
    method : {"evaluate", "max-rate", "simulate", "optimize"}
        What is asked at each point.
    options : Options
        For simulations.
    config : mapping
        What identifies the sweep, as plain values: ``scenario``, ``vary``, ``method`` and the like. Two sweeps with
        the same configuration give the same table.
    profiles : mapping
        Where the service times come from.
    """

    axes: tuple[Axis, ...]
    structures: Sequence[Structure]
    inner: Inner
    method: Method
    options: Options
    config: Mapping[str, Any]
    profiles: Mapping[str, Any]

    @property
    def points(self) -> int:
        """How many there are."""
        return size(self.axes)

    @property
    def compiled(self) -> bool:
        """Whether it is large enough for compiled loops."""
        return self.method == "evaluate" and self.points >= _MANY

    def task(self, start: int, stop: int) -> Task:
        """The points from ``start`` up to ``stop``, in the order in which they are computed: machines outermost."""
        inner = int(np.prod(self.inner.shape))
        parts = tuple((self.structures[i], a, b) for i, a, b in pieces(start, stop, inner))
        compiled = self.points >= _MANY
        return Task(method=self.method, compiled=compiled, inner=self.inner, options=self.options, pieces=parts)

    def tasks(self, spans: Sequence[tuple[int, int]], workers: int) -> Iterator[tuple[int, Task]]:
        """First point and task of every part of what is missing."""
        left = sum(stop - start for start, stop in spans)
        inner = int(np.prod(self.inner.shape))
        most = min(_AT_ONCE[self.method], _MOST_STRUCTURES * inner, -(-left // (_TASKS_EACH * workers)))
        for start, stop in spans:
            for at in range(start, stop, most):
                yield at, self.task(at, min(at + most, stop))

    def order(self) -> Any:
        """For each row of the table the place at which it is computed."""
        keys = [a.key for a in self.axes]
        computed = [k for k in keys if k not in FAST] + [k for k in FAST if k in keys]
        shape = [len(self.axes[keys.index(k)].values) for k in computed]
        return np.arange(self.points).reshape(shape).transpose([computed.index(k) for k in keys]).reshape(-1)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of a sweep did.

    Attributes
    ----------
    path : Path
        The table, or where it will be.
    points, computed, kept : int
        Points of the grid; of these computed by this run; and finished by runs before.
    statuses : mapping
        How many points are ``ok``, ``unstable``, and so on; empty until all are finished.
    interrupted : bool
        Whether Ctrl-C ended the run early: the same call goes on from here.
    retried : int
        Tasks run again because their worker died.
    seconds : float
        Wall-clock time of this run.
    """

    path: Path
    points: int
    computed: int
    kept: int
    statuses: Mapping[str, int]
    interrupted: bool
    retried: int
    seconds: float


def run(
    sweep: Sweep,
    out: str | Path,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    fresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Compute the points that are missing and, once none is, write the table.

    Finished blocks of points are appended to a journal beside the table and synced to disk, so a run that was killed,
    interrupted or left by its workers goes on where it was.

    Parameters
    ----------
    sweep : Sweep
        What to compute.
    out : path-like
        The Parquet file.
    executor : concurrent.futures.Executor, optional
        Where the points are computed; processes of our own by default. It is not shut down.
    workers : int, optional
        Processes of our own, or tasks that the executor runs at a time; all cores by default.
    fresh : bool
        Replace a table or a journal of another sweep, which is refused otherwise.
    progress : callable, optional
        Called with finished and all points.

    Raises
    ------
    InputError
        When the files belong to another sweep, or cannot be written.
    WorkerLostError
        When a task has lost its worker again and again; what was finished is kept.
    """
    began, path = time.perf_counter(), Path(out)
    table.pyarrow()
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"sweep: cannot write {str(path)!r}; give a file in a folder that exists")
    journal_path = path.with_name(path.name + ".journal")
    points, show = sweep.points, progress or (lambda done, points: None)
    if path.exists() and not fresh:
        before = table.read_metadata(path)
        _same(path, before["config"], sweep.config)
        journal_path.unlink(missing_ok=True)
        show(points, points)
        return Outcome(
            path=path, points=points, computed=0, kept=points, statuses=before["statuses"], interrupted=False,
            retried=0, seconds=time.perf_counter() - began,
        )  # fmt: skip
    with Journal(journal_path, sweep.config, fresh=fresh) as journal:
        _same(journal_path, journal.header, sweep.config)
        missing = gaps(journal.spans, points)
        left = sum(stop - start for start, stop in missing)
        kept, done = points - left, points - left
        show(done, points)
        if left and sweep.compiled and executor is None:
            from recqueue.analysis.compiled import prepare

            prepare()
        # Starting a process takes as long as some hundred points.
        alone = executor is None and workers is None and left <= _FEW[sweep.method]
        with _here(alone, executor) as chosen, _farm(chosen, 1 if alone else workers) as farm:
            for start, block in farm.results(sweep.tasks(missing, farm.workers) if left else iter(()), compute):
                journal.append(start, block)
                done += len(block.figures)
                show(done, points)
        statuses: Mapping[str, int] = {}
        if done == points:
            statuses = compact(sweep, journal, path)
            journal.remove()
    return Outcome(
        path=path, points=points, computed=done - kept, kept=kept, statuses=statuses, interrupted=done < points,
        retried=farm.retried, seconds=time.perf_counter() - began,
    )  # fmt: skip


@contextmanager
def _here(alone: bool, executor: Executor | None) -> Iterator[Executor | None]:
    """A thread of this process instead of ``executor``."""
    if not alone:
        yield executor
        return
    with ThreadPoolExecutor(1) as thread:
        yield thread


def _farm(executor: Executor | None, workers: int | None) -> Farm[Task, Block]:
    return Farm(executor, workers)


def _same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to mix two sweeps."""
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        raise InputError(
            f"sweep: {path} belongs to another sweep ({', '.join(changed)} changed); choose another --out, or replace "
            "it with --fresh"
        )


def compact(sweep: Sweep, journal: Journal, path: Path) -> dict[str, int]:
    """Write the table from all finished blocks; number of points by their status."""
    names = figures_of(sweep.method)
    figures = np.full((sweep.points, len(names)), np.nan)
    words: dict[str, list[str | None]] = {name: [None] * sweep.points for name in words_of(sweep.method)}
    for start, block in journal.blocks():
        stop = start + len(block.figures)
        figures[start:stop] = block.figures
        for name, texts in block.words.items():
            words[name][start:stop] = texts
    order = sweep.order()
    figures, places = figures[order], order.tolist()
    words = {name: [texts[i] for i in places] for name, texts in words.items()}
    statuses = {str(word): count for word, count in Counter(words["status"]).most_common()}
    metadata = {
        "schema": 1,
        "kind": "sweep",
        "config": sweep.config,
        "profiles": sweep.profiles,
        "versions": versions(),
        "points": sweep.points,
        "statuses": statuses,
    }
    table.write(path, sweep.axes, {name: figures[:, i] for i, name in enumerate(names)}, words, metadata)
    return statuses


def versions() -> dict[str, str]:
    """Of what computes a table."""
    found = {"python": platform.python_version()}
    for package in ("recqueue", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
