"""Latency targets that the literature holds each model to."""

from __future__ import annotations

from types import MappingProxyType

from recqueue.errors import InputError

MEDIUM_TARGETS_S = MappingProxyType(
    {
        "dien": 0.035,
        "din": 0.100,
        "dlrm-rmc1": 0.100,
        "dlrm-rmc2": 0.400,
        "dlrm-rmc3": 0.100,
        "mt-wnd": 0.025,
        "ncf": 0.005,
        "wide-and-deep": 0.025,
    }
)
"""Medium p95 targets (s). UNVERIFIED: recalled from the DeepRecSys paper (Gupta et al., ISCA 2020), not read there;
those of NCF, Wide&Deep, MT-WnD and DIEN agree with the targets in the public Kairos repository."""

LEVELS = MappingProxyType({"low": 0.5, "medium": 1.0, "high": 1.5})
"""Factor on the medium target; the -50 % and +50 % are recalled and unverified too."""


def latency_target_s(model: str, level: str = "medium") -> float:
    """Latency target of a packaged model in seconds, for the 95th percentile (unverified, see ``MEDIUM_TARGETS_S``).

    Parameters
    ----------
    model : str
        Packaged model name.
    level : {"low", "medium", "high"}
        Half, once or one and a half times the medium target.

    Raises
    ------
    InputError
        For a model or a level without a target.
    """
    if model not in MEDIUM_TARGETS_S:
        raise InputError(
            f"no published latency target for model {model!r}; give {{percentile: 95, latency_ms: ...}}, or use one of "
            f"{', '.join(sorted(MEDIUM_TARGETS_S))}"
        )
    if level not in LEVELS:
        raise InputError(f"latency target level {level!r}; allowed: {', '.join(LEVELS)}")
    return LEVELS[level] * MEDIUM_TARGETS_S[model]
