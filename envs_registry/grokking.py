"""Group arithmetic: grokking, and the energy of its features."""

from .spec import EnvSpec

_PAPER = "Tian, Provable Scaling Laws of Feature Emergence from Learning Dynamics of Grokking, 2025"

GROKKING = (
    EnvSpec(
        id="optenvs/GroupGrokking-v0",
        entry_point="optenvs.envs.grokking.grokking:GroupGrokking",
        family="grokking",
        oracles=("value", "gradient", "minibatch"),
        summary="A network that learns a group's product from some pairs: it memorises, then generalises",
        reference=_PAPER,
        best_known=0.0,
    ),
    EnvSpec(
        id="optenvs/FeatureEnergy-v0",
        entry_point="optenvs.envs.grokking.feature_energy:FeatureEnergy",
        family="grokking",
        oracles=("energy", "ascent"),
        summary="Hidden nodes on spheres that climb the energy of features and collect a group's irreps",
        reference=_PAPER,
        best_known=0.0,
        multi_agent=True,
    ),
    EnvSpec(
        id="optenvs/RidgeTop-v0",
        entry_point="optenvs.envs.grokking.ridge_top:RidgeTop",
        family="grokking",
        oracles=("value", "gradient"),
        summary="The same network, its top layer always at the ridge solution: the first layer is asked for",
        reference=_PAPER,
    ),
)
