"""Reinforcement learners with tables, for one learner's life: learned rules, rules by hand, schedules."""

from ..spec import AgentSpec

AGENTS = (
    AgentSpec("annealed_rates", "annealed_rates", "AnnealedRates", ("rates",)),
    AgentSpec("lpg", "lpg", "LPG", ("policy|targets",)),
    AgentSpec("lpo", "lpo", "LPO", ("policy",)),
    AgentSpec("tabular_a2c", "a2c", "TabularA2C", ("policy",)),
    AgentSpec("tabular_dpo", "dpo", "TabularDPO", ("policy",)),
    AgentSpec("tabular_ppo", "ppo", "TabularPPO", ("policy",)),
    AgentSpec("tabular_reinforce", "reinforce", "TabularReinforce", ("policy",)),
)
