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
)
