"""What is studied, as frozen values that compute nothing: System, Policy, Scenario; and Performance, the answer."""

from recqueue.serving.fleet import Day, Fleet, FleetPerformance, HourPerformance, MachineGroup, Router
from recqueue.serving.performance import Experiment, Performance
from recqueue.serving.planning import Demand, MachineType, PlanQuestion, Safety, Switching
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario, Sla
from recqueue.serving.sharing import Goal, SharedMachine, Tenant
from recqueue.serving.stages import Pipeline, PipelinePerformance, Stage, StagePerformance, stages_from_graph
from recqueue.serving.system import Accelerator, Power, System

__all__ = [
    "Accelerator",
    "Day",
    "Demand",
    "Experiment",
    "Fleet",
    "FleetPerformance",
    "Goal",
    "HourPerformance",
    "MachineGroup",
    "MachineType",
    "Performance",
    "Pipeline",
    "PipelinePerformance",
    "PlanQuestion",
    "Policy",
    "Power",
    "Router",
    "Safety",
    "Scenario",
    "SharedMachine",
    "Sla",
    "Stage",
    "StagePerformance",
    "Switching",
    "System",
    "Tenant",
    "stages_from_graph",
]
