"""The knobs of DeepRecSched, and how many queries a launch may fuse."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recqueue.errors import InputError
from recqueue.serving.system import Accelerator, System


@dataclass(frozen=True)
class Policy:
    """How queries are split, where they go, and how many share a launch there.

    Parameters
    ----------
    batch_size : int
        Most items of a query that one core takes as one sub-request; 1 or more.
    offload_threshold : int or None
        Queries of at least this many items go whole to the accelerator; None never offloads.
    max_fused_queries : int or None
        Most queries in one launch, at most what the accelerator allows; None for whatever it allows.

    Raises
    ------
    InputError
        When a knob is not a whole number of 1 or more.
    """

    batch_size: int
    offload_threshold: int | None = None
    max_fused_queries: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.batch_size, bool) or int(self.batch_size) != self.batch_size or self.batch_size < 1:
            raise InputError(f"batch_size {self.batch_size}; it must be a whole number of 1 or more")
        t = self.offload_threshold
        if t is not None and (isinstance(t, bool) or int(t) != t or t < 1):
            raise InputError(f"offload_threshold {t}; it must be a whole number of 1 or more, or null for never")
        f = self.max_fused_queries
        if f is not None and (isinstance(f, bool) or int(f) != f or f < 1):
            raise InputError(
                f"max_fused_queries {f}; it must be a whole number of 1 or more, or null for all that is allowed"
            )

    def check(self, system: System, max_items: int | None, key: str) -> None:
        """Refuse a system that cannot do what the policy asks, for queries of up to ``max_items`` where they are known.

        Raises
        ------
        InputError
            One line that begins with ``key``.
        """
        t, f, device = self.offload_threshold, self.max_fused_queries, system.accelerator
        if device is None and t is not None:
            raise InputError(
                f"{key}offload_threshold {t} but the system has no accelerator; use null (never), or describe an "
                "accelerator"
            )
        if t is not None and max_items is not None and t > max_items:
            raise InputError(
                f"{key}offload_threshold {t} is above the largest query ({max_items} items); allowed: 1..{max_items}, "
                "or null for never"
            )
        if f is None:
            return
        if device is None:
            raise InputError(
                f"{key}max_fused_queries {f} but the system has no accelerator; leave it out, or describe one"
            )
        if f > device.max_fused_queries:
            raise InputError(
                f"{key}max_fused_queries {f} is above what the accelerator allows; allowed: "
                f"1..{device.max_fused_queries} (accelerator.max_fused_queries), or null for that"
            )

    def accelerator_of(self, system: System) -> Accelerator | None:
        """Accelerator of a system with the fusion that this policy allows; None where there is none."""
        device, f = system.accelerator, self.max_fused_queries
        if device is None or f is None or f >= device.max_fused_queries:
            return device
        return replace(device, max_fused_queries=f, fusion_wait_s=device.fusion_wait_s if f > 1 else 0.0)

    def __str__(self) -> str:
        t, f = self.offload_threshold, self.max_fused_queries
        offload = "no offload" if t is None else f"offload from {t} items"
        return f"batch size {self.batch_size}, {offload}" + ("" if f is None else f", at most {f} in a launch")
