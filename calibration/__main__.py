"""Command line: ``python -m calibration`` and what to do: measure, campaign, live-fit, live-predict, fit and others."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recqueue import models
from recqueue.errors import InputError, RecqueueError

PROFILES = Path(__file__).parents[1] / "recqueue" / "data" / "profiles"
RAW = Path(__file__).parent / "raw"
PARTS = (
    "tight",
    "contention",
    "served",
    "launches",
    "served-launches",
    "operators",
    "launch-operators",
    "fused",
    "zipf",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure", help="measure this machine; appends raw rows and writes a manifest")
    measure.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="all by default")
    measure.add_argument("--out", type=Path, required=True, help="folder for the rows, such as calibration/raw/NAME")
    measure.add_argument("--seconds", type=float, default=560, help="budget over all models (default 560)")
    measure.add_argument("--models", nargs="+", choices=models.names(include_variants=True), default=models.names())
    measure.add_argument("--max-batch", type=int, default=2048)
    measure.add_argument("--reps", type=int, default=30)
    measure.add_argument("--each", type=int, default=40, help="sub-requests of each batch size and load (served)")
    measure.add_argument("--table-scale", type=float, default=1.0, help="below 1 for tests; such rows are never fitted")
    measure.add_argument("--device", default="cuda", help="accelerator: cuda, or cpu to try the code without one")
    live = commands.add_parser("serve", help="run a live server under Poisson load and record what it does")
    live.add_argument("--model", choices=models.names(include_variants=True), required=True)
    live.add_argument("--out", type=Path, required=True, help="folder for live.csv and the records")
    live.add_argument("--batch-size", type=int, nargs="+", required=True)
    live.add_argument("--offload-threshold", type=int, nargs="+", help="several pair with --batch-size; 0 is never")
    live.add_argument("--fused", type=int, default=1, help="most queries in one launch")
    live.add_argument("--qps", type=float, nargs="+", required=True)
    live.add_argument("--queries", type=int, default=5000)
    live.add_argument("--workers", type=int, required=True)
    live.add_argument("--device", help="accelerator: cuda, or cpu to try the code without one; none by default")
    live.add_argument("--graphs", action="store_true", help="launches padded and replayed as CUDA graphs")
    live.add_argument("--seconds", type=float, default=560)
    live.add_argument("--seed", type=int, default=0)
    live.add_argument("--table-scale", type=float, default=1.0, help="below 1 for tests")
    campaign = commands.add_parser("campaign", help="a live server over configurations and loads, to fit and to judge")
    campaign.add_argument("--out", type=Path, required=True, help="folder, such as calibration/raw/NAME/live")
    campaign.add_argument("--models", nargs="+", choices=models.names(include_variants=True), required=True)
    campaign.add_argument("--device", default="cuda", choices=["cuda", "cpu", "none"], help="accelerator")
    campaign.add_argument("--seconds", type=float, default=500, help="budget over all models (default 500)")
    campaign.add_argument("--workers", type=int, help="serving cores; all but two by default")
    campaign.add_argument("--explore", action="store_true", help="few configurations and loads, to try it out")
    campaign.add_argument("--configurations", nargs="+", default=[], metavar="BATCH[/THRESHOLD/FUSED]",
                          help="only these, and no services")  # fmt: skip
    campaign.add_argument("--rounds", type=int, help="how often each run is made (default 6)")
    campaign.add_argument("--table-scale", type=float, default=1.0, help="below 1 for tests; never fitted")
    for name, text in (
        ("live-fit", "campaign -> a scenario of each model with the parameters of the live server"),
        ("live-predict", "the same, and predictions for every measured run of the campaign"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--raw", type=Path, default=RAW / "xeon-16c" / "live", help="folder of the campaign")
        command.add_argument("--out", type=Path, required=True, help="folder for MODEL.yaml and predicted.csv")
        command.add_argument("--runs", type=Path, help="live-predict: runs of this campaign instead of the fitted one")
        command.add_argument("--models", nargs="+", choices=models.names(include_variants=True),
                             help="all that were measured by default")  # fmt: skip
    join = commands.add_parser("join", help="campaigns of different models as one")
    join.add_argument("campaigns", type=Path, nargs="+", metavar="FOLDER")
    join.add_argument("--out", type=Path, required=True, help="a new folder")
    fit = commands.add_parser("fit", help="raw rows -> profiles with provenance measured")
    fit.add_argument("--raw", type=Path, required=True)
    fit.add_argument("--hardware", required=True)
    fit.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    fit.add_argument("--graphs", action="store_true", help="cuda: launches replayed as CUDA graphs")
    fit.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu where the machine was shared")
    commands.add_parser("roofline", help="modelled profiles for hardware that nobody has measured yet")
    commands.add_parser("published", help="profiles from published tables")
    for command in ("fit", "roofline", "published"):
        commands.choices[command].add_argument("--out", type=Path, default=PROFILES)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 3 on bad input, with one line that says why."""
    a = _parser().parse_args(arguments)
    try:
        if a.command == "measure":
            from calibration.measure import BATCHES, Plan, measure

            batches = tuple(b for b in BATCHES if b <= a.max_batch)
            plan = Plan(names=tuple(a.models), parts=tuple(a.parts), batches=batches, reps=a.reps,
                        each=a.each, table_scale=a.table_scale, device=a.device, seconds=a.seconds)  # fmt: skip
            measure(a.out, plan)
        elif a.command == "serve":
            from calibration.live import Run, measure_live

            thresholds = [t or None for t in a.offload_threshold or [0] * len(a.batch_size)]
            if len(thresholds) != len(a.batch_size):
                raise InputError(
                    f"--offload-threshold: {len(thresholds)} for {len(a.batch_size)} batch sizes; give as many"
                )
            runs = [Run(batch_size=b, offload_threshold=t, qps=q, queries=a.queries, seed=a.seed + i,
                        max_fused_queries=a.fused)
                    for b, t in zip(a.batch_size, thresholds, strict=True) for i, q in enumerate(a.qps)]  # fmt: skip
            print(measure_live(a.model, runs, a.out, workers=a.workers, device=a.device, graphs=a.graphs,
                               seconds=a.seconds, table_scale=a.table_scale))  # fmt: skip
        elif a.command == "campaign":
            from calibration.campaign import run_campaign
            from calibration.plan import Campaign, Configuration

            chosen = tuple(map(Configuration.parse, a.configurations))
            run_campaign(a.out, Campaign(names=a.models, seconds=a.seconds, workers=a.workers, explore=a.explore,
                                         device=None if a.device == "none" else a.device, configurations=chosen,
                                         rounds=a.rounds, table_scale=a.table_scale))  # fmt: skip
        elif a.command in ("live-fit", "live-predict"):
            from calibration.predict import measured_models, predict_all, write_scenarios

            names = a.models or measured_models(a.runs or a.raw)
            write_scenarios(a.raw, names, a.out)
            if a.command == "live-predict":
                predict_all(a.raw, names, a.out, runs=a.runs)
        elif a.command == "join":
            from calibration.join import join

            print(join(a.campaigns, a.out))
        elif a.command == "fit":
            from calibration.fit import fit_all

            print(fit_all(a.raw, a.hardware, a.out, device=a.device, clock=a.clock, graphs=a.graphs))
        elif a.command == "roofline":
            from calibration.roofline import write_all

            print(write_all(RAW / "epyc-2c", a.out))
        else:
            from calibration.published import write_published

            print(write_published(a.out))
    except RecqueueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
