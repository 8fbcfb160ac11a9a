"""Environments whose actions steer another method."""

from .spec import EnvSpec

META = (
    EnvSpec(
        id="optenvs/GnsControl-v0",
        entry_point="optenvs.envs.meta.gns_control:GnsControl",
        family="meta",
        oracles=("trial",),
        summary="The radius of gradient-regularised Newton steps on any landscape, as a learnable control",
        reference="Semenov, Jaggi, Doikov, Gradient-Normalized Smoothness, 2025, adaptive search",
    ),
)
