"""A state goes on where it began, or in an environment made of the same: elsewhere it is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import agents
import optenvs
from optenvs.core.env import OptimizationEnv
from optenvs.faces.aec import AECFace
from optenvs.faces.parallel import ParallelFace
from optenvs.faces.sb3 import SB3VecEnv
from optenvs.wrappers import StepSizeControl


def rosenbrock(**keywords: Any) -> OptimizationEnv:
    return optenvs.make("Rosenbrock", **({"dim": 2, "bounds": "domain"} | keywords))


def network(**keywords: Any) -> OptimizationEnv:
    return optenvs.make(
        "NetworkQuadratic", **({"nodes": 3, "dim": 2, "dtype": "float32", "budget": 10_000} | keywords)
    )


def swarm(**keywords: Any) -> OptimizationEnv:
    return optenvs.make("Particles", landscape="Ackley", **keywords)


FACES: dict[str, Any] = {
    "single": (optenvs.GymEnv, rosenbrock),
    "vector": (lambda core: optenvs.TorchVectorEnv(core, 2), rosenbrock),
    "sb3": (lambda core: SB3VecEnv(core, 2), rosenbrock),
    "parallel": (ParallelFace, network),
    "aec": (AECFace, network),
}
OTHERS = {
    "float64": ({"dtype": "float64"}, r"with other keywords \(dtype: 'float32', here 'float64'\)"),
    "dim": ({"dim": 3}, r"with other keywords \(dim: 2, here 3\)"),
    "budget": ({"budget": {"gradient": 7}}, r"with other keywords \(budget: 10000, here {'gradient': 7}\)"),
}


def begun(face: Any) -> Any:
    face.seed(0) if isinstance(face, SB3VecEnv) else None
    face.reset() if isinstance(face, SB3VecEnv) else face.reset(seed=0)
    return face


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("other", OTHERS)
def test_set_state_refuses_other_keywords_and_names_them(name: str, other: str, tmp_path: Path) -> None:
    make, core = FACES[name]
    changes, message = OTHERS[other]
    face = begun(make(core()))
    saved = optenvs.load(optenvs.save(tmp_path / "face", face.get_state()))
    elsewhere = begun(make(core(**changes)))
    before = elsewhere.get_state()
    with pytest.raises(ValueError, match=f"^set_state: the state is of a {core().name} {message}$"):
        elsewhere.set_state(saved)
    now = elsewhere.get_state()
    assert torch.equal(now.state.observation["point"], before.state.observation["point"])
    alike = begun(make(core()))
    alike.set_state(saved)
    assert torch.equal(alike.get_state().state.observation["point"], saved.state.observation["point"])


def test_set_state_refuses_another_environment() -> None:
    face = begun(optenvs.GymEnv(rosenbrock()))
    with pytest.raises(ValueError, match="^set_state: a state of Rosenbrock cannot go on in Ackley$"):
        begun(optenvs.GymEnv(optenvs.make("Ackley", dim=2, bounds="domain"))).set_state(face.get_state())


def test_a_run_from_disk_resumes_in_its_own_environment_only(tmp_path: Path) -> None:
    run = optenvs.rollout(rosenbrock(), agents.SGD(lr=1e-3), steps=3)
    saved = optenvs.load(optenvs.save(tmp_path / "run", run))
    assert len(optenvs.rollout(rosenbrock(), agents.SGD(lr=1e-3), steps=3, resume=saved).reward) == 3
    for make in (optenvs.rollout, optenvs.unroll):
        with pytest.raises(ValueError, match=r"^resume: .*dtype: 'float32', here 'float64'"):
            make(rosenbrock(dtype="float64"), agents.SGD(), steps=1, resume=saved)
        with pytest.raises(ValueError, match="^resume: a state of Rosenbrock cannot go on in Beale"):
            make(optenvs.make("Beale"), agents.SGD(), steps=1, resume=saved)


def cubic(x: torch.Tensor) -> torch.Tensor:
    return (x**2).sum() ** 1.5


def quartic(x: torch.Tensor) -> torch.Tensor:
    return (x**4).sum()


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        (lambda: rosenbrock(), lambda: rosenbrock(device="cpu:0"), None),
        (lambda: rosenbrock(tolerance=1), lambda: rosenbrock(tolerance=np.float64(1.0)), None),
        (lambda: rosenbrock(bounds=(-1, 1)), lambda: rosenbrock(bounds=[-1.0, 1.0]), None),
        (lambda: rosenbrock(bounds=(-1, 1)), lambda: rosenbrock(bounds=(-1, 2)), "bounds"),
        (
            lambda: network(curvatures=(1.0,) * 3),
            lambda: network(curvatures=(1.0, 1.0, 2.0)),
            "curvatures",
        ),
        (lambda: swarm(dim=2), lambda: swarm(dim=3), "landscape.dim"),
        (
            lambda: optenvs.from_function(cubic, dim=2),
            lambda: optenvs.from_function(quartic, dim=2),
            "function",
        ),
        (
            lambda: StepSizeControl(rosenbrock(), agents.SGD(momentum=0.9)),
            lambda: StepSizeControl(rosenbrock(), agents.SGD()),
            "agent.momentum",
        ),
        (
            lambda: StepSizeControl(rosenbrock(), agents.SGD(lr=torch.arange(1.0, 100))),
            lambda: StepSizeControl(rosenbrock(), agents.SGD(lr=torch.arange(2.0, 101))),
            "agent.lr",
        ),
    ],
)
def test_what_makes_two_configurations_differ(one: Any, other: Any, differ: str | None) -> None:
    left, right = dict(one().configuration), dict(other().configuration)
    assert [name for name in left if left[name] != right[name]] == ([] if differ is None else [differ])
    assert dict(one().configuration) == left  # and made again, it is the same
    assert max(map(len, left.values())) < 200


def test_the_origin_stays_with_the_episode() -> None:
    env = StepSizeControl(rosenbrock(), agents.SGD())
    face = begun(optenvs.TorchVectorEnv(env, 2))
    face.step(torch.zeros(2, 1))
    face.reset(options={"reset_mask": torch.tensor([True, False])})
    state = face.get_state().state
    assert state.origin == env.configuration
    assert env.inner(state).origin == env.env.configuration


def test_functions_of_one_name_and_other_numbers_are_other_keywords() -> None:
    made = [optenvs.from_function(lambda x, a=a: a * (x * x).sum(), dim=2, budget=9) for a in (1.0, 5.0, 5.0)]
    assert made[1].configuration == made[2].configuration
    run = optenvs.rollout(made[1], agents.SGD(lr=0.01), steps=3)
    optenvs.rollout(made[2], agents.SGD(lr=0.01), steps=3, resume=run)
    with pytest.raises(ValueError, match="function"):
        optenvs.rollout(made[0], agents.SGD(lr=0.01), steps=3, resume=run)


class Bowl:
    """A function with a number in it."""

    def __init__(self, centre: float) -> None:
        self.centre = centre

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.centre) ** 2).sum()


def test_objects_of_one_class_with_other_numbers_are_other_problems() -> None:
    def bowl(centre: float) -> OptimizationEnv:
        return optenvs.from_function(Bowl(centre), dim=2, bounds=(-5.0, 5.0))

    def affine(weight: float) -> OptimizationEnv:
        layer = torch.nn.Linear(2, 1)
        torch.nn.init.constant_(layer.weight, weight)
        torch.nn.init.zeros_(layer.bias)
        return optenvs.from_function(lambda x: layer(x).sum(), dim=2, bounds=(-5.0, 5.0))

    for make in (bowl, affine):
        assert make(1.0).configuration == make(1.0).configuration
        assert make(1.0).configuration != make(3.0).configuration
    run = optenvs.rollout(bowl(1.0), agents.make("sgd"), steps=1)
    with pytest.raises(ValueError, match="resume: the state is of"):
        optenvs.rollout(bowl(3.0), agents.make("sgd"), steps=1, resume=run)
