"""Group arithmetic for the tests of agents: a tiny network that is shown its pairs, with a gap."""

from __future__ import annotations

from dataclasses import dataclass

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.evaluations import Evaluations
from optenvs.core.random import Keys
from optenvs.core.struct import replace
from optenvs.envs.grokking.grokking import GroupGrokking


@dataclass(frozen=True, eq=False, kw_only=True)
class Shown(GroupGrokking):
    """All nine pairs of Z3 and twelve nodes, which can fit them: the least loss is 0."""

    group: str = "Z3"
    width: int = 12
    fraction: float = 1.0
    oracle: str = "minibatch"
    evaluation_period: Evaluations = None

    def sample(self, keys: Keys) -> Instance:
        instance = super().sample(keys)
        return replace(instance, hidden=replace(instance.hidden, evaluation={}))

    def answer(self, state: State, action: Action) -> Answer:
        answer = super().answer(state, action)
        return replace(answer, metrics={"gap": answer.merit})

    def evaluate(self, state: State) -> State:
        return state
