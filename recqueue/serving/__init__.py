"""What is studied, as frozen values that compute nothing: System, Policy, Scenario; and Performance, the answer."""

from recqueue.serving.performance import Experiment, Performance
from recqueue.serving.policy import Policy
from recqueue.serving.scenario import Scenario, Sla
from recqueue.serving.system import Accelerator, Power, System

__all__ = ["Accelerator", "Experiment", "Performance", "Policy", "Power", "Scenario", "Sla", "System"]
