"""Convex programs of two layers of rectified units."""

from .spec import EnvSpec

_MODULE = "optenvs.envs.convex_relu"
_PAPER = "Bai, Gautam, Sojoudi, Efficient Global Optimization of Two-Layer ReLU Networks, arXiv 2201.01965"

CONVEX_RELU = (
    EnvSpec(
        id="optenvs/ConvexRelu-v0",
        entry_point=f"{_MODULE}.program:ConvexRelu",
        family="convex_relu",
        oracles=("value", "gradient", "loss", "violation", "network"),
        summary="Two layers of rectified units as a convex program over sampled activation patterns",
        reference=_PAPER,
        best_known=0.0,
    ),
    EnvSpec(
        id="optenvs/ReluTrain-v0",
        entry_point=f"{_MODULE}.train:ReluTrain",
        family="convex_relu",
        oracles=("value", "gradient", "hvp", "hessian"),
        summary="Two layers of rectified units trained, not convex, with the global optimum known",
        reference=_PAPER,
    ),
)
