"""Neural networks that stand for a simulation, with constraints."""

from .spec import EnvSpec

_MODULE = "optenvs.envs.surrogate"
_ORACLES = ("value", "poll", "vjp", "jacobian")

SURROGATE = (
    EnvSpec(
        id="optenvs/ReluBox-v0",
        entry_point=f"{_MODULE}.relu_box:ReluBox",
        family="surrogate",
        oracles=_ORACLES,
        summary="The output of a random ReLU network over a box; small ones have an exact optimum",
        reference="Tong, Cai, Serra, Optimization over Trained Neural Networks: Taking a Relaxing Walk, 2024",
    ),
)
