"""What an agent counts of its own work: on record over time, and nothing that a budget counts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core import load, save, struct
from optenvs.core.ledger import Ledger
from optenvs.core.rollout import rollout, unroll_windows
from optenvs.core.work import find, ledger_at, resting


@struct
class Memory:
    count: Tensor
    work: Ledger


@dataclass(frozen=True, eq=False)
class Refined:
    """Gradient descent that says how many inner steps it took: row i takes i more at each turn than row 0."""

    lr: float = 0.1
    nested: str = "plain"
    needs = ("gradient",)

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> Any:
        ledger = Ledger.empty(("inner", "solve"), len(keys), keys.device)
        memory = Memory(count=torch.arange(len(keys)), work=ledger)
        return {"plain": memory, "pair": (keys, {"own": memory})}[self.nested]

    def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Tensor, Any]:
        memory = state if self.nested == "plain" else state[1]["own"]
        after = dataclasses.replace(memory, work=memory.work.bill({"inner": memory.count + 1, "solve": 2}))
        query = observation["point"] - self.lr * observation["gradient"]
        return query, after if self.nested == "plain" else (state[0], {"own": after})


@pytest.mark.parametrize("nested", ["plain", "pair"])
def test_it_is_on_record(nested: str) -> None:
    run = rollout(optenvs.make("Quadratic", dim=3, tolerance=None), Refined(nested=nested), batch=3, steps=4)
    assert run.work is not None
    assert run.work.kinds == ("inner", "solve")
    assert run.work["solve"].tolist() == [[2 * t] * 3 for t in range(5)]
    assert run.work["inner"].tolist() == [[t, 2 * t, 3 * t] for t in range(5)]
    # the oracle's ledger knows nothing of it
    assert run.calls.kinds == ("gradient", "value")
    assert run.calls["gradient"][-1].tolist() == [5] * 3


def test_no_budget_counts_it() -> None:
    run = rollout(optenvs.make("Quadratic", budget=12, tolerance=None), Refined(), batch=2)
    assert len(run.reward) == 11
    assert run.work is not None and run.work["solve"][-1].tolist() == [22, 22]


def test_without_a_ledger_there_is_none() -> None:
    run = rollout(optenvs.make("Quadratic", dim=3), agents.Adam(), batch=2, steps=3)
    assert run.work is None


@pytest.mark.parametrize("at_once", [0, 1, 3])
def test_finished_rows_do_not_work(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # what a compiled rollout compiles, without the compiler
    monkeypatch.setattr("optenvs.core.compiled._compile", lambda recorded, _: recorded)
    env = optenvs.make("Quadratic", dim=3, dtype="float64", budget=None, tolerance=0.1)
    run = rollout(env, Refined(), batch=5, steps=60, compile=at_once)
    assert run.work is not None
    steps = (~run.done).sum(0)
    assert len(steps.unique()) > 2 and bool((steps < 60).any())
    assert run.work["solve"][-1].tolist() == (2 * steps).tolist()
    assert run.work["inner"][-1].tolist() == (steps * torch.arange(1, 6)).tolist()
    for row, end in enumerate(steps.tolist()):
        assert (run.work.counts[end:, row] == run.work.counts[end, row]).all()
    assert torch.equal(run.agent_state.work.counts, run.work.counts[-1])


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    env = optenvs.make("Quadratic", dim=3, dtype="float64", budget=None, tolerance=0.1)
    whole = rollout(env, Refined(), batch=5, steps=30)
    half = rollout(env, Refined(), batch=5, steps=11)
    rest = rollout(env, Refined(), steps=19, resume=load(save(tmp_path / "run", half), classes=(Memory,)))
    assert whole.work is not None and half.work is not None and rest.work is not None
    joined = torch.cat((half.work.counts, rest.work.counts[1:]))
    assert torch.equal(joined, whole.work.counts)


def test_windows_carry_it() -> None:
    env = optenvs.make("Quadratic", dim=3, tolerance=None)
    runs = list(unroll_windows(env, Refined(), batch=2, steps=6, truncation=4))
    assert [run.work["solve"][-1, 0].item() for run in runs if run.work is not None] == [8, 12]


def test_the_outermost_ledger_is_the_agents() -> None:
    inside = Memory(count=torch.arange(2), work=Ledger.empty(("inner",), 2, torch.device("cpu")))
    whole = {"parts": [inside], "work": Ledger.empty(("inner", "outer"), 2, torch.device("cpu"))}
    assert find(whole, 2) == ("work",)
    assert find({"parts": [torch.zeros(2), inside]}, 2) == ("parts", 1, "work")
    assert find({"bill": inside.work}, 2) is None
    with pytest.raises(TypeError, match=r"one ledger holds all .* memory has 0.work and 1.work"):
        find((inside, inside), 2)
    with pytest.raises(
        TypeError, match=r"expected counts in int64 of shape \(3, 1\), got torch.int64 \(2, 1\)"
    ):
        find(inside, 3)


def test_rows_rest_wherever_the_ledger_is() -> None:
    def memory(count: int) -> Memory:
        ledger = Ledger(counts=torch.full((2, 1), count), kinds=("inner",))
        return Memory(count=torch.full((2,), count), work=ledger)

    for wrap in (lambda m: m, lambda m: [m], lambda m: {"a": (0, m)}):
        before, after = wrap(memory(1)), wrap(memory(5))
        path = find(after, 2)
        assert path is not None
        found = resting(torch.tensor([True, False]), before, after, path)
        assert type(found) is type(after)
        assert ledger_at(found, path)["inner"].tolist() == [1, 5]
        assert ledger_at(after, path)["inner"].tolist() == [5, 5]


def test_an_agent_that_loses_its_ledger_is_told() -> None:
    @dataclass(frozen=True, eq=False)
    class Forgets(Refined):
        def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Tensor, Any]:
            query, after = super().act(state, observation)
            return query, dataclasses.replace(after, work=after.work.counts)

    with pytest.raises(TypeError, match="had a ledger of its work, and now Tensor"):
        rollout(optenvs.make("Quadratic", dim=3), Forgets(), batch=2, steps=2)
