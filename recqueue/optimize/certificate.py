"""What the search has proved, and on what the proof rests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Check:
    """A property of the formulas that the proof uses, looked at where the search was.

    Attributes
    ----------
    claim : str
        In words.
    done, violated : int
        How often it was looked at, and how often it did not hold.
    """

    claim: str
    done: int
    violated: int


@dataclass(frozen=True, kw_only=True)
class Certificate:
    r"""Why no policy is better than the one found.

    Attributes
    ----------
    lattice : int
        Integer policies in all.
    identical : int
        Of these the ones that are the same as another: no query notices the difference.
    excluded : mapping
        Different policies that a bound excludes, by bound: ``memory`` (the tables do not fit), ``saturation`` (never
        recommended above the rate found), ``service`` (too many queries are late even if none ever waited),
        ``offload`` (too many are late on the accelerators alone), ``less work`` (with less work on the cores than
        theirs, that of a lower threshold or of a bound over several batch sizes, too many are late).
    tested : int
        Different policies that were evaluated themselves and do not keep the promise at the rate found or a little
        above; and the one found.
    open : int
        Different policies of which nothing is known but that they saturate later.
    low, high : float
        Bracket of the best score: that of the policy found, and what no policy exceeds.
    exact : bool
        Whether nothing is open and no check was violated, so that the two differ by the tolerance alone.
    checks : mapping
        Properties of the formulas that are not proved.
    """

    lattice: int
    identical: int
    excluded: Mapping[str, int]
    tested: int
    open: int
    low: float
    high: float
    exact: bool
    checks: Mapping[str, Check] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """How much better than the policy found any other could be, as a share of it; infinite where none was found."""
        return abs(self.high - self.low) / self.low if self.low > 0 else float("inf")
