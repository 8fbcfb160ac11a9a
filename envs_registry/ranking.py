"""Ranking oracles: values stay hidden, an order is shown."""

from .spec import EnvSpec

RANKING = (
    EnvSpec(
        id="optenvs/Ranking-v0",
        entry_point="optenvs.envs.ranking.ranking:Ranking",
        family="ranking",
        oracles=("ranking",),
        summary="The best of some points on any landscape, in order, and never their values",
        reference="Tang, Rybin, Chang, Zeroth-Order Optimization Meets Human Feedback, 2024",
        kwargs={"objective": "optenvs/Rosenbrock-v0", "dim": 10},
    ),
    EnvSpec(
        id="optenvs/RankingLatent-v0",
        entry_point="optenvs.envs.ranking.latent:RankingLatent",
        family="ranking",
        oracles=("ranking",),
        summary="Latents of a diffusion model of digits, whose images are ranked by a hidden taste",
        reference="Tang, Rybin, Chang, Zeroth-Order Optimization Meets Human Feedback, 2024",
    ),
    EnvSpec(
        id="optenvs/RankingPolicy-v0",
        entry_point="optenvs.envs.ranking.policy:RankingPolicy",
        family="ranking",
        oracles=("ranking",),
        summary="Linear policies ranked by the returns of their episodes",
        reference="Tang, Rybin, Chang, Zeroth-Order Optimization Meets Human Feedback, 2024",
    ),
)
