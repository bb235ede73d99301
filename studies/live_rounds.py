"""The same on a second machine, measured in rounds: two cores of a virtual EPYC host, one of them serving.

``python -m studies.live_rounds`` reads ``calibration/live_server_2c`` (made by ``python -m calibration live-predict``
from the committed records of ``python -m calibration campaign``) and writes the tables and the picture of the second
part of ``docs/studies/live-server.rst`` and its record ``studies/results/live_rounds.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from calibration.judge import Choice, summary
from studies import live_server as study
from studies.record import DOCS, RESULTS, save_record

FOLDER = Path(__file__).parents[1] / "calibration" / "live_server_2c"
RECORD = RESULTS / "live_rounds.json"
SHOWN = ("64", "256")
"""The held-out policies, both of them."""


def tables(every: Sequence[study.Row], found: Sequence[Choice]) -> dict[str, str]:
    """All tables of the page, by name."""
    return {
        "targets": study.target_table(every, found),
        "drift": study.drift_table(every, FOLDER),
        "parts": study.parts_table(every),
        "worst": study.worst_table(every),
        "choices": study.choices_table(found),
    }


def main() -> None:
    """Write tables, picture and record."""
    every = study.rows(folder=FOLDER)
    found = study.all_choices(every, FOLDER)
    for name, text in tables(every, found).items():
        (DOCS / "studies" / f"live_rounds_{name}.inc").write_text(text, encoding="utf-8")
    study.picture(every, SHOWN, height_in=3.6).savefig(DOCS / "studies" / "live_rounds.png", dpi=100)
    save_record(RECORD, "python -m studies.live_rounds", runs=len(every), held_out=summary(study.held_out(every)),
                choices=[asdict(c) for c in found])  # fmt: skip


if __name__ == "__main__":
    main()
