"""Drawing a model: its operators from the inputs at the top to the answer at the bottom, repetitions folded."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from recqueue.models import Kind, Model
from recqueue.models.roles import Role, role_graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOX_IN, ROW_IN, COLUMN_IN = (2.3, 0.38), 0.64, 2.5
"""Width and height of a box, and the distance of rows and columns, in inches at the size of ``model_figure``."""

_COLOURS = {
    "embedding bag": ("#cfe3f3", {Kind.EMBEDDING_BAG}),
    "matrix product": ("#f9d9b0", {Kind.FC}),
    "recurrent cell": ("#f3c6c0", {Kind.RECURRENT}),
    "input": ("#ffffff", {Kind.DENSE_INPUT}),
    "element-wise": ("#e3eed3", {Kind.RELU, Kind.SIGMOID, Kind.TANH, Kind.SOFTMAX, Kind.SUM}),
    "movement": ("#e4e1ec", {Kind.CONCAT, Kind.TO_SEQUENCE, Kind.LAST_STEP}),
}

_Columns = dict["_Node", float]
_Node = tuple[str, str, int]  # a role as (name, name, 0); the way of an edge through layer i as (source, target, i)


def _layers(graph: nx.DiGraph[str]) -> tuple[list[list[_Node]], dict[tuple[str, str], list[_Node]]]:
    """Give every node the lowest layer above what reads it, and every edge a way point in each layer it crosses."""
    height: dict[str, int] = {}
    for name in reversed(list(nx.topological_sort(graph))):
        height[name] = 1 + max((height[after] for after in graph.successors(name)), default=-1)
    depth = max(height.values())
    layers: list[list[_Node]] = [[] for _ in range(depth + 1)]
    for name in graph:
        layers[depth - height[name]].append((name, name, 0))
    ways: dict[tuple[str, str], list[_Node]] = {}
    for source, target in graph.edges:
        between = range(depth - height[source] + 1, depth - height[target])
        points: list[_Node] = [(source, target, i) for i in between]
        for i, point in zip(between, points, strict=True):
            layers[i].append(point)
        ways[source, target] = [(source, source, 0), *points, (target, target, 0)]
    return layers, ways


def _columns(layers: list[list[_Node]], ways: Mapping[tuple[str, str], list[_Node]], sweeps: int = 9) -> _Columns:
    """Place the nodes of each layer near the mean of their neighbours, one column apart at least.

    Sweeps upwards look at the layer below and sweeps downwards, the last one among them, at the layer above, so that
    chains come out straight.
    """
    above: dict[_Node, list[_Node]] = {node: [] for layer in layers for node in layer}
    below: dict[_Node, list[_Node]] = {node: [] for layer in layers for node in layer}
    for way in ways.values():
        for upper, lower in pairwise(way):
            above[lower].append(upper)
            below[upper].append(lower)
    x = {node: i - (len(layer) - 1) / 2 for layer in layers for i, node in enumerate(layer)}
    for sweep in range(sweeps):
        near, order = (below, layers[::-1]) if sweep % 2 == 0 and sweep < sweeps - 1 else (above, layers)
        for layer in order:
            wanted = {node: float(np.mean([x[n] for n in near[node]] or [x[node]])) for node in layer}
            layer.sort(key=wanted.__getitem__)
            at: list[float] = []
            for i, node in enumerate(layer):
                room = 1.0 if i and _is_box(node) and _is_box(layer[i - 1]) else 0.6
                at.append(max(wanted[node], at[-1] + room) if at else wanted[node])
            shift = float(np.mean([wanted[n] - p for n, p in zip(layer, at, strict=True)]))
            x.update({node: place + shift for node, place in zip(layer, at, strict=True)})
    return x


def _is_box(node: _Node) -> bool:
    return node[0] == node[1]


def _label(role: Role) -> str:
    times = f"  ×{role.count}" if role.count > 1 else ""
    return f"{role.name}{times}\n{role.kind}: {role.shape}"


def draw_model(model: Model, ax: Axes) -> None:
    """Draw the operators of a model on an Axes; alike ones share a box marked ×n, dashed arrows only order.

    Parameters
    ----------
    model : Model
        What to draw.
    ax : Axes
        Where; text has a fixed size, so ask ``model_figure`` for a figure that is large enough.
    """
    graph = role_graph(model)
    layers, ways = _layers(graph)
    x = _columns(layers, ways)
    place = {node: (x[node] * COLUMN_IN, -i * ROW_IN) for i, layer in enumerate(layers) for node in layer}
    width, height = BOX_IN
    colour_of = {kind: colour for colour, kinds in _COLOURS.values() for kind in kinds}
    for (source, target), way in ways.items():
        # past other boxes an edge runs straight down; it slants only between the rows
        xs = np.repeat([place[node][0] for node in way], 2)[1:-1]
        ys = np.array([place[node][1] + side * height / 2 for node in way for side in (1, -1)])[1:-1]
        style: dict[str, Any] = {"color": "0.35", "lw": 0.9, "ls": "-" if graph.edges[source, target]["data"] else "--"}
        ax.plot(xs[:-1], ys[:-1], zorder=1, **style)
        arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, **style}
        ax.annotate("", (xs[-1], ys[-1]), (xs[-2], ys[-2]), arrowprops=arrow)
    kept = {name: graph.nodes[name]["role"] for name in graph}
    for name, role in kept.items():
        cx, cy = place[name, name, 0]
        box = FancyBboxPatch(
            (cx - width / 2, cy - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.05",
            fc=colour_of[role.kind], ec="0.25", lw=0.8, zorder=2,
        )  # fmt: skip
        ax.add_patch(box)
        ax.text(cx, cy, _label(role), ha="center", va="center", fontsize=6.5, linespacing=1.25, zorder=3)
    xs, ys = np.array(list(place.values())).T
    ax.set_xlim(xs.min() - width / 2 - 0.1, xs.max() + width / 2 + 0.1)
    ax.set_ylim(ys.min() - height, ys.max() + height)
    ax.set_aspect("equal")
    ax.set_axis_off()
    present = {colour_of[role.kind] for role in kept.values()}
    handles = [Patch(fc=colour, ec="0.25", label=name) for name, (colour, _) in _COLOURS.items() if colour in present]
    ax.legend(handles=handles, fontsize=6.5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def model_figure(model: Model) -> Figure:
    """Return a figure of a model, as large as its drawing needs."""
    layers, ways = _layers(role_graph(model))
    columns = _columns(layers, ways).values()
    width = max((max(columns) - min(columns)) * COLUMN_IN + BOX_IN[0] + 0.4, 3.8)
    height, head = (len(layers) - 1) * ROW_IN + 2 * BOX_IN[1], 0.75
    figure = Figure(figsize=(width, height + head))
    draw_model(model, figure.add_axes((0.0, 0.0, 1.0, height / (height + head))))
    verified = "" if model.verified else ": unverified"
    figure.suptitle(f"{model.title}{verified}", fontsize=10, y=1 - 0.1 / (height + head), va="top")
    return figure
