"""Swarms of particles."""

from .spec import EnvSpec

_PAPER = "Riedl, Klock, Geldhauser, Fornasier, Gradient is All You Need?, 2023"

PARTICLES = (
    EnvSpec(
        id="optenvs/Particles-v0",
        entry_point="optenvs.envs.particles.particles:Particles",
        family="particles",
        oracles=("value", "gradient", "swarm"),
        summary="N particles on any landscape, which is a keyword",
        reference=_PAPER,
        kwargs={"landscape": "optenvs/GrandCanyon-v0"},
        multi_agent=True,
    ),
    EnvSpec(
        id="optenvs/ParticlesDigits-v0",
        entry_point="optenvs.envs.particles.training:ParticlesTraining",
        family="particles",
        oracles=("value", "swarm"),
        summary="N networks on 8x8 handwritten digits, with a minibatch that all of them share",
        reference=_PAPER,
        kwargs={
            "training": "optenvs/TrainDigits-v0",
            "model": "mlp",
            "widths": (),
            "norm": "after",
            "batch_size": 60,
            "epochs": 20,
            "standardise": "none",
        },
        needs=("scikit-learn",),
        multi_agent=True,
    ),
)
