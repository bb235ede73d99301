"""Files in and out: scenarios with exact errors, tables of sizes and timestamps."""

from recqueue.io.scenario import load_scenario, packaged_scenarios, scenario_from_mapping, template

__all__ = ["load_scenario", "packaged_scenarios", "scenario_from_mapping", "template"]
