"""Agents for networks under constraints: directional attacks, direct searches, walks on linear pieces."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("attack_only", "attack_only", "AttackOnly", ("value", "poll", "vjp")),
    AgentSpec(
        "barrier_attack", "barrier_attack", "BarrierAttack", ("value", "poll", "jacobian"), ("inequalities",)
    ),
    AgentSpec("cdsm", "cdsm", "CDSM", ("value", "poll")),
    AgentSpec("directional_attack", "directional_attack", "DirectionalAttack", ("value", "poll", "vjp")),
    AgentSpec("mads", "mads", "MADS", ("value", "poll"), ("inequalities",)),
    AgentSpec(
        "piecewise_linear_ascent", "piecewise_linear_ascent", "PiecewiseLinearAscent", ("value", "poll")
    ),
    AgentSpec("projected_gradient", "projected_gradient", "ProjectedGradient", ("value", "poll", "vjp")),
    AgentSpec("random_line_search", "random_line_search", "RandomLineSearch", ("value", "poll")),
    AgentSpec("relax_and_walk", "relax_and_walk", "RelaxAndWalk", ("value", "poll")),
)
