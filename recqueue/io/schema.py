"""Scenario files, schema 1: which keys there are and which values each of them takes.

Anything else is refused by name. Only form is checked here; what needs numbers to be compared with each other is
checked by the frozen values that :mod:`recqueue.io.scenario` builds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag, model_validator
from pydantic_core import PydanticCustomError

Positive = Annotated[FiniteFloat, Field(gt=0)]
NotNegative = Annotated[FiniteFloat, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Block(BaseModel):
    """A mapping of known keys; values are taken as they are, never converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        keys = [field.alias or name for name, field in cls.model_fields.items()]
        if not isinstance(data, dict):
            raise PydanticCustomError("not_a_mapping", "a mapping with the keys", {"keys": keys})
        for key in data:
            if key not in keys:
                raise PydanticCustomError("unknown_key", "unknown", {"key": key, "keys": keys})
        return data


class Table(Block):
    """Service times of one device."""

    batch_size: list[Count]
    latency_ms: list[Positive]
    cv: NotNegative = 0.0
    noise: list[Positive] = []


class Service(Block):
    """The user's own service times; a device without them takes its packaged profile."""

    cpu: Table | None = None
    accelerator: Table | None = None


class ContentionTable(Block):
    """Slow-down by busy cores."""

    busy: list[Count]
    factor: list[Positive]
    batch_size: list[Count] = []
    strength: list[NotNegative] = []


class Drift(Block):
    """Speed of the cores that changes with time."""

    factor: list[Positive]
    lasting_ms: Positive


def _by_type(name: str) -> Discriminator:
    """Tell a name from a mapping, so that each gets its own error."""
    return Discriminator(lambda value: f"<{name}>" if isinstance(value, str) else "<mapping>")


class Server(Block):
    """The cores."""

    cpu: str
    cores: Count | None = None
    contention: (
        Annotated[
            Annotated[Literal["measured", "none"], Tag("<level>")] | Annotated[ContentionTable, Tag("<mapping>")],
            _by_type("level"),
        ]
        | None
    ) = None
    dispatch_overhead_us: NotNegative | None = None
    wakeup_us: NotNegative | None = None
    drift: Drift | None = None
    dispatch: Literal["central", "random", "round_robin", "jsq", "prefetch"] = "central"
    prefetch: Count | None = None


class Accelerator(Block):
    """The accelerators."""

    device: str
    count: Count = 1
    max_fused_queries: Count = 1
    fused_query_us: NotNegative | None = None
    fusion_wait_ms: NotNegative = 0.0
    wakeup_us: NotNegative | None = None
    host_slowdown: NotNegative | None = None


class Mlperf(Block):
    """MLPerf DLRM sizes."""

    distribution: Literal["mlperf"]


class Production(Block):
    """The public production-like mix."""

    distribution: Literal["production"]


class Lognormal(Block):
    """Lognormal sizes."""

    distribution: Literal["lognormal"]
    mean_log: FiniteFloat
    sigma_log: Positive
    max: Count


class Normal(Block):
    """Normal sizes."""

    distribution: Literal["normal"]
    mean: FiniteFloat
    sd: Positive
    max: Count


class Fixed(Block):
    """One size."""

    distribution: Literal["fixed"]
    items: Count


class Pmf(Block):
    """Sizes with weights."""

    distribution: Literal["pmf"]
    items: list[Count]
    weight: list[NotNegative]


class SizeFile(Block):
    """Sizes from a file."""

    distribution: Literal["file"]
    file: str


class Poisson(Block):
    """Exponential gaps."""

    process: Literal["poisson"]


class Renewal(Block):
    """Independent gaps of a given variability."""

    process: Literal["renewal"]
    scv: NotNegative
    law: Literal["gamma", "hyperexponential"] = "gamma"


class Mmpp(Block):
    """Poisson arrivals whose rate follows a Markov chain."""

    process: Literal["mmpp"]
    rates: list[NotNegative]
    switch_per_s: list[list[NotNegative]]


class Diurnal(Block):
    """Poisson arrivals whose rate follows the time of day."""

    process: Literal["diurnal"]
    time_h: list[NotNegative]
    relative_rate: list[NotNegative]
    period_h: Positive = 24.0


class Trace(Block):
    """Recorded timestamps."""

    process: Literal["trace"]
    file: str


class Legacy(Block):
    """Whole-millisecond Poisson gaps."""

    process: Literal["legacy_deeprecsys"]


def _by_key(key: str, names: list[str]) -> Discriminator:
    """Choose the form of a block by its ``key``; an unknown name is reported with the choices."""

    def tag(value: Any) -> str | None:
        name = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return f"<{name}>" if name in names else None

    return Discriminator(
        tag,
        custom_error_type="bad_choice",
        custom_error_message="no known choice",
        custom_error_context={"key": key, "names": names},  # type: ignore[dict-item]
    )


class Workload(Block):
    """What arrives."""

    sizes: Annotated[
        Annotated[Mlperf, Tag("<mlperf>")]
        | Annotated[Production, Tag("<production>")]
        | Annotated[Lognormal, Tag("<lognormal>")]
        | Annotated[Normal, Tag("<normal>")]
        | Annotated[Fixed, Tag("<fixed>")]
        | Annotated[Pmf, Tag("<pmf>")]
        | Annotated[SizeFile, Tag("<file>")],
        _by_key("distribution", ["mlperf", "production", "lognormal", "normal", "fixed", "pmf", "file"]),
    ]
    arrivals: Annotated[
        Annotated[Poisson, Tag("<poisson>")]
        | Annotated[Renewal, Tag("<renewal>")]
        | Annotated[Mmpp, Tag("<mmpp>")]
        | Annotated[Diurnal, Tag("<diurnal>")]
        | Annotated[Trace, Tag("<trace>")]
        | Annotated[Legacy, Tag("<legacy_deeprecsys>")],
        _by_key("process", ["poisson", "renewal", "mmpp", "diurnal", "trace", "legacy_deeprecsys"]),
    ] = Poisson(process="poisson")


class Policy(Block):
    """The knobs."""

    batch_size: Count
    offload_threshold: Count | None = None
    max_fused_queries: Count | None = None


class Sla(Block):
    """The promise."""

    percentile: Annotated[FiniteFloat, Field(gt=0, lt=100)] = 95.0
    latency_ms: Positive


Promise = Annotated[
    Annotated[Literal["low", "medium", "high"], Tag("<level>")] | Annotated[Sla, Tag("<mapping>")],
    _by_type("level"),
]
"""A promise by name or by its numbers."""


class Document(Block):
    """A whole scenario file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    model: str | None = None
    service: Service = Service()
    server: Server
    accelerator: Accelerator | None = None
    workload: Workload
    policy: Policy | None = None
    sla: Promise
    qps: Positive | None = None
