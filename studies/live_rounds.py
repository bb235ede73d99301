"""Predicted against measured on live servers whose policies were measured in rounds, each spread over minutes.

``python -m studies.live_rounds`` reads ``calibration/live_server_rounds`` (16 cores with an H200) and
``calibration/live_server_2c`` (one core of a noisy host), which ``python -m calibration live-predict`` makes from the
committed records, and writes the tables and pictures of ``docs/studies/live-server.rst`` and its record
``studies/results/live_rounds.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from calibration.judge import Choice, summary
from studies import live_server as study
from studies.record import DOCS, RESULTS, save_record

RECORD = RESULTS / "live_rounds.json"


@dataclass(frozen=True)
class Machine:
    """A machine: the folder of its predictions, and the two held-out policies in its picture."""

    folder: Path
    shown: tuple[str, str]

    @property
    def rows(self) -> list[study.Row]:
        """All measurements, predicted."""
        return study.rows(folder=self.folder)


CALIBRATION = Path(__file__).parents[1] / "calibration"
MACHINES = {
    "h200": Machine(CALIBRATION / "live_server_rounds", ("256", "64/300/4")),
    "2c": Machine(CALIBRATION / "live_server_2c", ("64", "256")),
}


def tables(machine: Machine, every: Sequence[study.Row], found: Sequence[Choice]) -> dict[str, str]:
    """All tables of a machine, by name."""
    return {
        "targets": study.target_table(every, found),
        "groups": study.groups_table(every),
        "drift": study.drift_table(every, machine.folder),
        "parts": study.parts_table(every),
        "worst": study.worst_table(every),
        "choices": study.choices_table(found),
    }


def main() -> None:
    """Write tables, pictures and record."""
    record = {}
    for name, machine in MACHINES.items():
        every = machine.rows
        found = study.all_choices(every, machine.folder)
        for table, text in tables(machine, every, found).items():
            (DOCS / "studies" / f"live_rounds_{name}_{table}.inc").write_text(text, encoding="utf-8")
        figure = study.picture(every, machine.shown, height_in=3.6)
        figure.savefig(DOCS / "studies" / f"live_rounds_{name}.png", dpi=100)
        held = study.held_out(every)
        record[name] = {
            "runs": len(held),
            "held_out": summary(held),
            "choices": [asdict(c) for c in found],
        }
    save_record(RECORD, "python -m studies.live_rounds", machines=record)


if __name__ == "__main__":
    main()
