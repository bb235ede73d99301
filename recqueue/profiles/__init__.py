"""Service times of models on hardware: S(b), its spread, its contention and where it comes from."""

from recqueue.profiles.contention import NO_CONTENTION, Contention
from recqueue.profiles.curve import LatencyCurve, Provenance
from recqueue.profiles.drift import Drift
from recqueue.profiles.hardware import Hardware, hardware, hardware_names
from recqueue.profiles.profile import OperatorCurve, Profile, available, load, profile_from_json

__all__ = [
    "NO_CONTENTION",
    "Contention",
    "Drift",
    "Hardware",
    "LatencyCurve",
    "OperatorCurve",
    "Profile",
    "Provenance",
    "available",
    "hardware",
    "hardware_names",
    "load",
    "profile_from_json",
]
