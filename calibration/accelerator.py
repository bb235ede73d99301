"""A model behind an accelerator: copies in and back, one launch for several queries, replay as a CUDA graph.

Everything runs with device "cpu" too (copies become copies within memory, graphs are refused), so that it is tested
on machines without an accelerator.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from calibration.network import Feed, Network, draw_ids


class HostPool:
    """Queries in pinned host memory: a query's ids lie item by item in one buffer, its dense features in another."""

    def __init__(self, network: Network, items: int, *, seed: int = 0) -> None:
        cuda, tables = network.device != "cpu", network.model.tables
        rng = np.random.default_rng(seed)
        columns = [draw_ids(rng, network.rows[t], (items, op.sizes["lookups"]), "uniform") for t, op in tables.items()]
        ids, dense = torch.from_numpy(np.concatenate(columns, 1)), network.model.dense_inputs
        self.items = items
        self.ids = ids.pin_memory() if cuda else ids
        features = torch.rand(items, dense) if dense else None
        self.dense = features.pin_memory() if cuda and features is not None else features

    def first(self, turn: int, items: int) -> int:
        """First row for a turn that needs ``items`` rows; another one for another turn."""
        return turn * 977 * max(1, items // 64) % (self.items - items + 1)


class Launcher:
    """One batch shape of a network: ``fused`` queries of ``items`` items in one launch.

    A launch copies each query's buffers to the device, reorders the ids by table there, runs the network and copies
    the scores back. Graphs that never run at the same time may share ``memory``, as ``graph_memory`` of one of them.
    """

    def __init__(
        self, network: Network, pool: HostPool, items: int, *, fused: int = 1, graph: bool = False, memory: Any = None
    ) -> None:
        self.network, self.pool, self.items, self.fused = network, pool, items, fused
        self.cuda = network.device != "cpu"
        if graph and not self.cuda:
            raise ValueError("CUDA graphs need a CUDA device")
        model, total = network.model, items * fused
        self._lookups = {t: op.sizes["lookups"] for t, op in model.tables.items()}
        self._ids = torch.empty(total, pool.ids.shape[1], dtype=torch.int64, device=network.device)
        self._dense = torch.empty(total, model.dense_inputs, device=network.device) if pool.dense is not None else None
        self._copy_in(0)
        out = self.compute()
        self._answer = self._pinned(torch.empty(out.shape))
        self._graph: Any = None
        if graph:
            self._capture(memory)

    def _pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.cuda else tensor

    def _copy_in(self, turn: int) -> None:
        start = self.pool.first(turn, self.items * self.fused)
        for q in range(self.fused):
            first = start + q * self.items
            here, there = slice(q * self.items, (q + 1) * self.items), slice(first, first + self.items)
            self._ids[here].copy_(self.pool.ids[there], non_blocking=True)
            if self._dense is not None and self.pool.dense is not None:
                self._dense[here].copy_(self.pool.dense[there], non_blocking=True)

    def feed(self) -> Feed:
        """Ids by table, from the items' order in which they arrive."""
        return self._feed_of(self._ids, self._dense)

    @torch.inference_mode()
    def _feed_of(self, ids: torch.Tensor, dense: torch.Tensor | None) -> Feed:
        sizes = set(self._lookups.values())
        if len(sizes) == 1:  # one kernel for all tables
            by_table = ids.view(len(ids), len(self._lookups), sizes.pop()).transpose(0, 1).contiguous()
            return Feed(dense, dict(zip(self._lookups, by_table.unbind(0), strict=True)))
        parts = ids.split(list(self._lookups.values()), 1)
        return Feed(dense, {t: part.contiguous() for t, part in zip(self._lookups, parts, strict=True)})

    def compute(self) -> torch.Tensor:
        """Reorder and run, on what lies on the device."""
        return self.network.run(self.feed())

    @property
    def graph_memory(self) -> Any:
        """Memory of the captured graph, for other graphs to share."""
        return self._graph.pool()

    def _capture(self, memory: Any) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.compute()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=memory):
            self._graph_out = self.compute()
        self._graph = graph

    def synchronize(self) -> None:
        """Wait until the device is done."""
        if self.cuda:
            torch.cuda.synchronize()

    def __call__(self, turn: int) -> torch.Tensor:
        """End to end: copy in, run, copy back, wait."""
        self._copy_in(turn)
        if self._graph is None:
            out = self.compute()
        else:
            self._graph.replay()
            out = self._graph_out
        self._answer.copy_(out, non_blocking=True)
        self.synchronize()
        return self._answer

    def launch_parts(self, first: int, sizes: Sequence[int]) -> torch.Tensor:
        """End to end for queries of these sizes, that together have at most as many items as this launcher."""
        at = 0
        for n in sizes:
            here, there = slice(at, at + n), slice(first + at, first + at + n)
            self._ids[here].copy_(self.pool.ids[there], non_blocking=True)
            if self._dense is not None and self.pool.dense is not None:
                self._dense[here].copy_(self.pool.dense[there], non_blocking=True)
            at += n
        if self._graph is None:
            dense = None if self._dense is None else self._dense[:at]
            out = self.network.run(self._feed_of(self._ids[:at], dense))
        else:
            self._graph.replay()
            out = self._graph_out[:at]
        answer = self._answer[:at]
        answer.copy_(out, non_blocking=True)
        self.synchronize()
        return answer

    def copy_in(self, turn: int) -> None:
        """Only the copies to the device."""
        self._copy_in(turn)
        self.synchronize()

    def copy_back(self, turn: int) -> None:
        """Only the copy of as many scores as the model gives back."""
        del turn
        self._answer.copy_(self._answer.to(self.network.device), non_blocking=True)
        self.synchronize()

    @torch.inference_mode()
    def operator_seconds(self) -> np.ndarray:
        """Seconds by role: CUDA events around each operator on a GPU, the wall clock elsewhere."""
        if not self.cuda:
            return self.network.run_timed(self.feed())[0]
        feed, steps = self.feed(), self.network._steps
        events = [torch.cuda.Event(enable_timing=True) for _ in range(len(steps) + 1)]
        values: list[Any] = [None] * len(steps)
        events[0].record()
        for i, call, inputs, done in steps:
            values[i] = call([values[j] for j in inputs], feed)
            events[i + 1].record()
            for j in done:
                values[j] = None
        torch.cuda.synchronize()
        return self.network.by_role(np.array([a.elapsed_time(b) for a, b in pairwise(events)]) / 1e3)


class QueryLauncher:
    """Launches of any few queries of any sizes, as a server needs them.

    Parameters
    ----------
    network : Network
        On the device.
    pool : HostPool
        Queries in host memory.
    max_items : int
        Most items of a launch.
    graph_sizes : sequence of int
        Numbers of items to capture as CUDA graphs; a launch is padded to the next of them. Empty for eager launches.
    """

    def __init__(self, network: Network, pool: HostPool, max_items: int, *, graph_sizes: Sequence[int] = ()) -> None:
        self._pool, self.max_items = pool, max_items
        self._graphs: dict[int, Launcher] = {}
        memory = None
        for n in sorted(graph_sizes, reverse=True):  # the largest first: the others fit into its memory
            self._graphs[n] = Launcher(network, pool, n, graph=True, memory=memory)
            memory = self._graphs[n].graph_memory
        self._sizes = sorted(self._graphs)
        covered = bool(self._sizes) and self._sizes[-1] >= max_items
        self._eager = None if covered else Launcher(network, pool, max_items)

    def padded(self, items: int) -> int:
        """Items that a launch of so many computes: the next captured number, itself beyond the last."""
        at = bisect_left(self._sizes, items)
        return self._sizes[at] if at < len(self._sizes) else items

    def launch(self, sizes: Sequence[int], turn: int) -> torch.Tensor:
        """Copy these queries in one by one, run them as one batch, copy the scores back, wait."""
        total = sum(sizes)
        launcher = self._graphs.get(self.padded(total), self._eager)
        if launcher is None:
            raise ValueError(f"a launch of {total} items; at most {self.max_items}")
        return launcher.launch_parts(self._pool.first(turn, total), sizes)
