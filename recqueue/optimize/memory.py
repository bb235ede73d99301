"""Whether the embedding tables of a model fit where a policy uses them."""

from __future__ import annotations

from dataclasses import dataclass

from recqueue import models
from recqueue.profiles import hardware, hardware_names
from recqueue.serving import Scenario

_FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of the tables, and of the memory of the server and of one accelerator; None where unknown.

    Tables are whole on each device that serves queries; weights outside the tables are small beside them.
    """

    tables_bytes: float | None
    server_bytes: float | None
    accelerator_bytes: float | None

    @property
    def server_fits(self) -> bool:
        """Whether the cores can serve queries, for all that is known."""
        return self.tables_bytes is None or self.server_bytes is None or self.tables_bytes <= self.server_bytes

    @property
    def accelerator_fits(self) -> bool:
        """Whether accelerators can serve queries, for all that is known."""
        known = self.tables_bytes is not None and self.accelerator_bytes is not None
        return not known or self.tables_bytes <= self.accelerator_bytes  # type: ignore[operator]


def memory_of(scenario: Scenario) -> Memory:
    """Needs of a packaged model and capacities of packaged hardware."""
    known, system = hardware_names(), scenario.system
    tables = None
    if scenario.model in models.names(include_variants=True):
        sizes = [table.sizes for table in models.get(scenario.model).tables.values()]
        tables = float(_FLOAT_BYTES * sum(table["rows"] * table["dim"] for table in sizes))
    device = system.accelerator
    return Memory(
        tables_bytes=tables,
        server_bytes=hardware(system.name).memory_bytes if system.name in known else None,
        accelerator_bytes=hardware(device.name).memory_bytes if device and device.name in known else None,
    )
