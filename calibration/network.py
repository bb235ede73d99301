"""A PyTorch network built from a model's operator graph, and the inputs to feed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter, thread_time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from recqueue.models import Kind, Model, Operator

Tensor = torch.Tensor
POOL_ITEMS = 4096


@dataclass(frozen=True)
class Feed:
    """What a batch brings: dense features (b, width), and ids (b, lookups) for each embedding table."""

    dense: Tensor | None
    ids: dict[int, Tensor]


@cache
def _block(device: str) -> Tensor:
    return torch.rand(1 << 20, generator=torch.Generator().manual_seed(0)).sub_(0.5).to(device)


def _filled(rows: int, width: int, device: str) -> Tensor:
    """Make a table of small numbers; one random block is repeated, since only addresses matter for time."""
    table, block = torch.empty(rows, width, device=device), _block(device)
    for piece in table.view(-1).split(len(block)):
        piece.copy_(block[: len(piece)])
    return table


class Network:
    """The operators of a model in their order, each one PyTorch call; inference only, fp32.

    Parameters
    ----------
    model : Model
        From :mod:`recqueue.models`.
    device : str
        ``"cpu"`` or ``"cuda"``.
    table_scale : float
        Share of the published table rows to allocate (at least 10 rows); anything but 1 is for tests.
    """

    def __init__(self, model: Model, *, device: str = "cpu", table_scale: float = 1.0) -> None:
        self.model, self.device, self.table_scale = model, device, table_scale
        self.rows = {t: max(10, round(op.sizes["rows"] * table_scale)) for t, op in model.tables.items()}
        self.tables = {t: _filled(self.rows[t], op.sizes["dim"], device) for t, op in model.tables.items()}
        index = {op.name: i for i, op in enumerate(model.operators)}
        readers: list[list[int]] = [[] for _ in model.operators]
        for i, op in enumerate(model.operators):
            for name in set(op.inputs):
                readers[index[name]].append(i)
        self._steps = []
        for i, op in enumerate(model.operators):
            inputs = tuple(index[name] for name in op.inputs)
            alone = len(inputs) == 1 and readers[inputs[0]] == [i] and model.operators[inputs[0]].kind is Kind.FC
            done = tuple({j for j in inputs if max(readers[j]) == i})
            self._steps.append((i, self._call(op, in_place=alone), inputs, done))
        self.roles = list(dict.fromkeys(op.role for op in model.operators if op.kind is not Kind.DENSE_INPUT))
        where = {role: r for r, role in enumerate(self.roles)}
        self._role_of = np.array([where.get(op.role, 0) for op in model.operators])

    def _call(self, op: Operator, *, in_place: bool) -> Callable[[list[Tensor], Feed], Tensor]:
        s, cpu = op.sizes, self.device == "cpu"

        def weights(rows: int, columns: int) -> Tensor:
            return _filled(rows, columns, self.device).mul_(2 / columns**0.5)

        match op.kind:
            case Kind.DENSE_INPUT:
                return lambda _, feed: feed.dense  # type: ignore[return-value]
            case Kind.EMBEDDING_BAG:
                table, number = self.tables[s["table"]], s["table"]
                return lambda _, feed: F.embedding_bag(feed.ids[number], table, mode="sum")
            case Kind.FC:
                w, bias = weights(s["out_width"], s["in_width"]), weights(1, s["out_width"])[0]
                return lambda x, _: F.linear(x[0], w, bias)
            case Kind.RELU:
                return (lambda x, _: x[0].relu_()) if in_place else (lambda x, _: x[0].relu())
            case Kind.SIGMOID:
                return (lambda x, _: x[0].sigmoid_()) if in_place else (lambda x, _: x[0].sigmoid())
            case Kind.TANH:
                return (lambda x, _: x[0].tanh_()) if in_place else (lambda x, _: x[0].tanh())
            case Kind.SOFTMAX:
                return lambda x, _: torch.softmax(x[0], -1)
            case Kind.CONCAT:
                return lambda x, _: torch.cat(x, -1)
            case Kind.SUM if s["inputs"] == 1:
                return lambda x, _: x[0].clone()
            case Kind.SUM if s["inputs"] == 2:
                return lambda x, _: torch.add(x[0], x[1])
            case Kind.SUM:
                return _accumulate if cpu else (lambda x, _: torch.stack(x).sum(0))
            case Kind.TO_SEQUENCE:
                shape = (s["steps"], s["width"])
                return lambda x, _: x[0].view(-1, *shape).transpose(0, 1).contiguous()
            case Kind.LAST_STEP:
                return lambda x, _: x[0][-1].clone()
            case Kind.RECURRENT:
                w, bias = weights(s["hidden"], s["hidden"]), weights(1, s["hidden"])[0]
                return lambda x, _: _recurrent(x[0], w, bias)

    @torch.inference_mode()
    def run(self, feed: Feed) -> Tensor:
        """Run the whole model once; values are freed after their last reader, as a framework would."""
        values: list[Tensor | None] = [None] * len(self._steps)
        for i, call, inputs, done in self._steps:
            values[i] = call([values[j] for j in inputs], feed)  # type: ignore[misc]
            for j in done:
                values[j] = None
        return values[-1]  # type: ignore[return-value]

    @torch.inference_mode()
    def run_timed(self, feed: Feed) -> tuple[np.ndarray, np.ndarray]:
        """Run once on the CPU with a clock around each operator; (wall, CPU) seconds by role, in order of ``roles``."""
        values: list[Tensor | None] = [None] * len(self._steps)
        wall, cpu = np.zeros(len(self._steps)), np.zeros(len(self._steps))
        for i, call, inputs, done in self._steps:
            arguments = [values[j] for j in inputs]
            w0, c0 = perf_counter(), thread_time()
            values[i] = call(arguments, feed)  # type: ignore[arg-type]
            cpu[i], wall[i] = thread_time() - c0, perf_counter() - w0
            for j in done:
                values[j] = None
        return self.by_role(wall), self.by_role(cpu)

    def by_role(self, each: np.ndarray) -> np.ndarray:
        """Sum one number per operator into one per role."""
        return np.bincount(self._role_of, weights=each, minlength=len(self.roles))

    def touch(self) -> None:
        """Read every page of the tables once; after a fork the first read of a page is several times slower.

        The kernel clears the pages' accessed bits for a child, and setting each again costs a locked write by the page
        walker: with 4 GB of tables that outlasts short measurements, but no server that has run for a minute.
        """
        for table in self.tables.values():
            table.view(-1)[::1024].sum()

    def role_counts(self) -> list[tuple[str, str, int]]:
        """(role, kind, operators that share it), in order of ``roles``."""
        ops = [op for op in self.model.operators if op.kind is not Kind.DENSE_INPUT]
        kinds = {op.role: str(op.kind) for op in reversed(ops)}
        return [(role, kinds[role], sum(op.role == role for op in ops)) for role in self.roles]


def _accumulate(x: list[Tensor], _: Feed) -> Tensor:
    total = torch.add(x[0], x[1])
    for more in x[2:]:
        total.add_(more)
    return total


def _recurrent(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    h, out = x.new_zeros(x.shape[1:]), torch.empty_like(x)
    for t in range(len(x)):
        h = F.linear(h, w, bias).add_(x[t]).tanh_()
        out[t] = h
    return out


def draw_ids(rng: np.random.Generator, rows: int, shape: Sequence[int], law: str, exponent: float = 1.05) -> np.ndarray:
    r"""Row numbers, ``uniform`` or ``zipf``: rank r with density :math:`r^{-1.05}` up to the table, ranks scattered."""
    u = rng.random(shape)
    if law == "uniform":
        return (u * rows).astype(np.int64)
    power = 1 - exponent
    rank = ((rows**power - 1) * u + 1) ** (1 / power) - 1
    stride = next(s for s in range(int(rows * 0.618) | 1, 2 * rows + 2, 2) if np.gcd(s, rows) == 1)
    return np.minimum(rank, rows - 1).astype(np.int64) * stride % rows


class Pool:
    """Inputs of many items, so that consecutive batches do not find their rows in a cache."""

    def __init__(self, network: Network, *, law: str = "uniform", seed: int = 0, items: int = POOL_ITEMS) -> None:
        rng = np.random.default_rng(seed)
        self.items = items
        width = network.model.dense_inputs
        self.dense = torch.from_numpy(rng.random((items, width), dtype=np.float32)) if width else None
        self.ids = {
            t: torch.from_numpy(draw_ids(rng, network.rows[t], (items, op.sizes["lookups"]), law))
            for t, op in network.model.tables.items()
        }

    def batch(self, items: int, turn: int) -> Feed:
        """Return a batch of ``items``, another one for another turn (views, no copies)."""
        room = self.items - items
        start = turn * 977 * max(1, items // 64) % (room + 1)
        part = slice(start, start + items)
        return Feed(None if self.dense is None else self.dense[part], {t: ids[part] for t, ids in self.ids.items()})
