"""The service times of one model on one piece of hardware, as packaged files hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from recqueue.errors import InputError
from recqueue.profiles.contention import NO_CONTENTION, Contention
from recqueue.profiles.curve import LatencyCurve, Provenance
from recqueue.profiles.hardware import hardware as hardware_record

PROFILE_SCHEMA = 1
"""Version of the profile files that this code reads and the fit writes."""


@dataclass(frozen=True, kw_only=True)
class OperatorCurve:
    """Tight-loop time of one operator, all its repetitions in a model together.

    Attributes
    ----------
    name : str
        Role of the operator in the model's graph.
    kind : str
        What it does, in the words of the graph.
    count : int
        Operators of the graph that share the role.
    curve : LatencyCurve
        Seconds of all of them against the batch size.
    """

    name: str
    kind: str
    count: int
    curve: LatencyCurve


@dataclass(frozen=True, kw_only=True)
class Profile:
    r"""How long batches of a model take on a device.

    While ``m`` cores are busy, a sub-request of ``b`` items occupies its core for

    .. math:: S(b)\, f(m) + d

    with S ``service``, f ``contention`` and d ``dispatch_overhead_s``. For an accelerator S is end to end, copies
    included, and a launch that fuses q queries takes the time of their items together and (q - 1) times
    ``fused_query_s``.

    Attributes
    ----------
    model, hardware : str
        Names, as in :func:`load`.
    service : LatencyCurve
        As served, with one core busy: what analysis and simulation use.
    tight : LatencyCurve
        The same in a tight loop; equal to ``service`` where only one way of measuring exists.
    contention : Contention
        Slow-down as served, against busy cores.
    tight_contention : Contention
        The same with all busy cores in tight loops.
    dispatch_overhead_s : float
        Seconds a core is occupied per sub-request beyond its service: taking it from the queue, handing back the
        answer.
    wakeup_s : float
        Further seconds where the core, or the accelerator's process, was idle: until it is awake.
    host_slowdown : float
        Share that launches take longer while all cores of the host are busy (accelerators only).
    operators : tuple of OperatorCurve
        Tight loop, operator by operator; empty where unknown.
    fused : mapping
        Queries in one launch -> curve against the items of *one* query; empty where unknown (accelerators only).
    fused_query_s : float
        Seconds that each query beyond the first adds to a launch, beside the time of its items (accelerators only).
    provenance : {"measured", "published", "roofline"}
        Where the numbers come from.
    source : str
        One line: data and the command that made the profile.
    leave_one_out : float or None
        Median relative error of the table at each inner batch size when it is left out and interpolated.
    gaps : mapping
        Ratios by name, such as the sum of operators over end to end and as served over tight loop (medians).
    notes : tuple of str
        What a reader should know before trusting it.
    """

    model: str
    hardware: str
    service: LatencyCurve
    tight: LatencyCurve
    provenance: Provenance
    source: str
    contention: Contention = NO_CONTENTION
    tight_contention: Contention = NO_CONTENTION
    dispatch_overhead_s: float = 0.0
    wakeup_s: float = 0.0
    host_slowdown: float = 0.0
    operators: tuple[OperatorCurve, ...] = ()
    fused: Mapping[int, LatencyCurve] = field(default_factory=dict)
    fused_query_s: float = 0.0
    leave_one_out: float | None = None
    gaps: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def profile_from_json(text: str, *, name: str = "profile") -> Profile:
    """Read a profile file's text.

    Raises
    ------
    InputError
        When it is not a profile of schema 1; ``name`` is used in the message.
    """
    try:
        d = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: not JSON ({error})") from None
    if not isinstance(d, dict) or d.get("schema") != PROFILE_SCHEMA:
        found = d.get("schema") if isinstance(d, dict) else type(d).__name__
        raise InputError(f"{name}: schema {found}; this version reads schema {PROFILE_SCHEMA}. Fit the profile again")
    try:
        provenance, source = d["provenance"], d["source"]

        def curve(c: Mapping[str, Any]) -> LatencyCurve:
            return LatencyCurve(
                items=tuple(c["items"]),
                seconds=tuple(c["seconds"]),
                cv=c.get("cv", 0.0),
                noise=tuple(c.get("noise", ())),
                provenance=provenance,
                source=source,
            )

        def contention(c: Mapping[str, Any]) -> Contention:
            return Contention(
                busy=tuple(c["busy"]),
                factor=tuple(c["factor"]),
                items=tuple(c.get("items", ())),
                strength=tuple(c.get("strength", ())),
            )

        one = {"busy": [1], "factor": [1.0]}
        return Profile(
            model=d["model"],
            hardware=d["hardware"],
            service=curve(d["service"]),
            tight=curve(d["tight"]),
            provenance=provenance,
            source=source,
            contention=contention(d.get("contention", one)),
            tight_contention=contention(d.get("tight_contention", one)),
            dispatch_overhead_s=d.get("dispatch_overhead_s", 0.0),
            wakeup_s=d.get("wakeup_s", 0.0),
            host_slowdown=d.get("host_slowdown", 0.0),
            operators=tuple(
                OperatorCurve(name=o["name"], kind=o["kind"], count=o["count"], curve=curve(o))
                for o in d.get("operators", [])
            ),
            fused={int(f["queries"]): curve(f) for f in d.get("fused", [])},
            fused_query_s=d.get("fused_query_s", 0.0),
            leave_one_out=d.get("leave_one_out"),
            gaps=d.get("gaps", {}),
            notes=tuple(d.get("notes", [])),
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{name}: missing or malformed entry {error}. Fit the profile again") from None


def _folder() -> Any:
    return files("recqueue") / "data" / "profiles"


@cache
def _names() -> tuple[tuple[str, str], ...]:
    found = (entry.name for entry in _folder().iterdir())
    pairs = (name.removesuffix(".json").split("--") for name in found if name.endswith(".json"))
    return tuple(sorted((model, device) for model, device in pairs))


@cache
def load(model: str, hardware: str) -> Profile:
    """Packaged profile of a model on a piece of hardware.

    Parameters
    ----------
    model, hardware : str
        Names such as ``"dlrm-rmc1"`` and ``"xeon-16c"``; :func:`available` lists the pairs.

    Raises
    ------
    InputError
        When there is no such profile; the message lists what exists.
    """
    if (model, hardware) not in _names():
        devices = sorted({h for m, h in _names() if m == model})
        if not devices:
            raise InputError(f"no profile of model {model!r}; profiles exist for {sorted({m for m, _ in _names()})}")
        hardware_record(hardware)  # an unknown name gets the message that lists the hardware
        raise InputError(f"no profile of {model!r} on hardware {hardware!r}; {model!r} has one on {devices}")
    name = f"{model}--{hardware}.json"
    return profile_from_json((_folder() / name).read_text(encoding="utf-8"), name=name)


def available() -> tuple[tuple[str, str, Provenance], ...]:
    """(model, hardware, provenance) of every packaged profile, sorted by name."""
    return tuple((m, h, load(m, h).provenance) for m, h in _names())
