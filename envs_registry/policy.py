"""Policy search: weights of a policy, asked for trajectories."""

from .spec import EnvSpec

POLICY = (
    EnvSpec(
        id="optenvs/PolicySearch-v0",
        entry_point="optenvs.envs.policy.search:PolicySearch",
        family="policy",
        oracles=("policy_gradient", "product", "causal_product", "pair", "trajectory", "return"),
        summary="The weights of a policy, from gradients and Hessian products of its trajectories",
        reference="Fatkhullin, Barakat, Kireeva, He, Stochastic Policy Gradient Methods, ICML 2023",
    ),
)
