"""What is studied, as frozen values that compute nothing: System, Policy, Scenario; and Performance, the answer."""

from recqueue.serving.fleet import Day, Fleet, FleetPerformance, HourPerformance, MachineGroup, Router
from recqueue.serving.performance import Experiment, Performance
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario, Sla
from recqueue.serving.stages import Pipeline, PipelinePerformance, Stage, StagePerformance, stages_from_graph
from recqueue.serving.system import Accelerator, Power, System

__all__ = [
    "Accelerator",
    "Day",
    "Experiment",
    "Fleet",
    "FleetPerformance",
    "HourPerformance",
    "MachineGroup",
    "Performance",
    "Pipeline",
    "PipelinePerformance",
    "Policy",
    "Power",
    "Router",
    "Scenario",
    "Sla",
    "Stage",
    "StagePerformance",
    "System",
    "stages_from_graph",
]
