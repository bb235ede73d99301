"""Profiles from published tables: the medians at the tabulated batch sizes, not the straight lines fitted to them."""

from __future__ import annotations

import json
from pathlib import Path

from calibration.profiles import leave_one_out, rising, table, write_profile
from recqueue.errors import InputError

DATA = Path(__file__).parent / "published" / "kairos.json"

NOTES = {
    "": "Caffe2; feeding the inputs is included; threads and pinning of the CPU runs are not recorded, so a core may "
    "be more than one",
    "dlrm-rmc2": "the feed, which exceeds the compute, converts Python lists on every call: an artefact of that code, "
    "not a transfer",
    "dien": "published as DIEN but probably DIN-shaped: the scripts run din.py with the DIEN configuration",
}


def write_published(out: Path) -> str:
    """Write a profile per series, compute plus load.

    Straight lines a + b n fitted to the compute of MT-WnD and DIEN on c5n have a negative intercept, hence negative
    times at small n; the medians have none. A median that falls below that of a smaller batch (the first one
    holds start-up outliers) is levelled with it by the nearest rising sequence.
    """
    data = json.loads(DATA.read_text(encoding="utf-8"))
    written = 0
    for s in data["series"]:
        milliseconds = [c + load for c, load in zip(s["compute_ms_median"], s["load_ms_median"], strict=True)]
        if min(milliseconds) <= 0:
            raise InputError(f"{DATA.name}: {s['published_as']} holds a time that is not positive")
        seconds = rising([t / 1e3 for t in milliseconds])
        curve = table(s["batch"], seconds, s["median_cv"])
        record = {
            "model": s["model"],
            "hardware": s["hardware"],
            "provenance": "published",
            "source": f"Kairos (HPDC'23) data, {data['url']} at {data['commit']}, series {s['published_as']}, "
            f"median of {s['samples_per_batch']} per batch size; python -m calibration published",
            "service": curve,
            "tight": curve,
            "leave_one_out": leave_one_out(s["batch"], seconds),
            "notes": [NOTES[""], *([NOTES[s["model"]]] if s["model"] in NOTES else [])],
        }
        written += write_profile(out, record) is not None
    return f"{written} published profiles written"
