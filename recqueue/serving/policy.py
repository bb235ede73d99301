"""The two knobs of DeepRecSched."""

from __future__ import annotations

from dataclasses import dataclass

from recqueue.errors import InputError


@dataclass(frozen=True)
class Policy:
    """How queries are split and where they go.

    Parameters
    ----------
    batch_size : int
        Most items of a query that one core takes as one sub-request; 1 or more.
    offload_threshold : int or None
        Queries of at least this many items go whole to the accelerator; None never offloads.

    Raises
    ------
    InputError
        When a knob is not a whole number of 1 or more.
    """

    batch_size: int
    offload_threshold: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.batch_size, bool) or int(self.batch_size) != self.batch_size or self.batch_size < 1:
            raise InputError(f"batch_size {self.batch_size}; it must be a whole number of 1 or more")
        t = self.offload_threshold
        if t is not None and (isinstance(t, bool) or int(t) != t or t < 1):
            raise InputError(f"offload_threshold {t}; it must be a whole number of 1 or more, or null for never")

    def __str__(self) -> str:
        t = self.offload_threshold
        return f"batch size {self.batch_size}, " + ("no offload" if t is None else f"offload from {t} items")
