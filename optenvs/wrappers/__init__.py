"""Environments seen differently, for learned optimizers: each takes an environment and is one."""

from .base import Wrapper
from .displacement import Displacement
from .features import CoordinateFeatures, TimeFeatures
from .reparam import Reparametrise
from .spread import Spread
from .step_control import StepControl
from .step_size import StepSizeControl

__all__ = [
    "CoordinateFeatures",
    "Displacement",
    "Reparametrise",
    "Spread",
    "StepControl",
    "StepSizeControl",
    "TimeFeatures",
    "Wrapper",
]
