"""Resources: heavy shared things, named by a recipe, in a problem that reads as an example."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs import data
from optenvs.core import Answer, Instance, OptimizationEnv, State, load, rollout, save, static, struct
from optenvs.core.oracles import value_and_gradient
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.resources import Resource, forget
from optenvs.core.spaces import box
from optenvs.core.struct import tensors
from optenvs.core.tracing import recording

BUILT: list[tuple[Resource, torch.device, torch.dtype]] = []


class Images(NamedTuple):
    """``x``: ``(n, 64)``; ``y``: 1 for the digits above 4, else -1, ``(n,)``."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Digits(Resource):
    """The first training images of digits."""

    count: int = 60

    def build(self, device: torch.device, dtype: torch.dtype) -> Images:
        BUILT.append((self, device, dtype))
        digits = data.load("digits")
        x = torch.tensor(digits.train_x[: self.count]).flatten(1)
        y = torch.tensor(digits.train_y[: self.count] > 4)
        return Images(x.to(device, dtype), y.to(device, dtype) * 2 - 1)


@struct
class Problem:
    """What the agent may know: the images, which are no row of the batch."""

    images: Digits = static()


@dataclass(frozen=True, eq=False, kw_only=True)
class Separation(OptimizationEnv):
    """A plane between small and large digits: the squared hinge. One query: one normal vector."""

    count: int = 60

    oracles = ("value", "gradient")
    bill: ClassVar = {"gradient": 1, "value": 1}

    def action_fields(self) -> Any:
        return box((64,), self.dtype)

    def observation_fields(self) -> Any:
        point = box((64,), self.dtype)
        return {"point": point, "value": box((1,), self.dtype), "gradient": point}

    def sample(self, keys: Tensor) -> Instance:
        start = 0.1 * normal(keys, "start", 64, dtype=self.torch_dtype)
        return Instance(problem=Problem(images=Digits(self.count)), hidden=None, start=start)

    @property
    def bounded_below(self) -> bool:
        return False

    def answer(self, state: State, action: Any) -> Answer:
        images = state.problem.images.like(action)

        def loss(point: Tensor) -> Tensor:
            return (1 - images.y * (point @ images.x.T)).clamp_min(0).square().mean(-1)

        value, gradient = value_and_gradient(loss, action)
        observation = {"point": action, "value": value.unsqueeze(-1), "gradient": gradient}
        return Answer(observation=observation, merit=value, metrics={"value": value})


@pytest.fixture(autouse=True)
def fresh() -> None:
    forget()
    BUILT.clear()


def test_an_environment_with_a_resource_keeps_the_contract() -> None:
    assert optenvs.check(Separation()).ok
    # the checker also differentiates in float64; all its episodes share what was made
    assert sorted(str(dtype) for _, _, dtype in BUILT) == ["torch.float32", "torch.float64"]


def test_it_is_made_once_and_is_no_row() -> None:
    env = Separation()
    run = rollout(env, agents.SGD(lr=0.1), batch=7, steps=5)
    other = rollout(env.replace(budget=50), agents.SGD(lr=0.1), batch=3, steps=5)
    assert len(BUILT) == 1
    assert not [path for path in tensors(run.state) if path.startswith("problem")]
    assert (run.merit[-1] < run.merit[0]).all()
    assert torch.allclose(run.merit[:, :3], other.merit)
    first = run.state.problem.images.on("cpu", torch.float32)
    assert first is other.state.problem.images.like(run.merit)


def test_another_recipe_or_precision_is_another_thing() -> None:
    few, single = Digits(10).on("cpu", torch.float32), Digits(60).on("cpu", torch.float32)
    double = Digits(60).on(torch.device("cpu"), torch.float64)
    assert (len(few.x), len(single.x)) == (10, 60)
    assert double.x.dtype == torch.float64
    assert torch.equal(single.x.double(), double.x)
    assert len(BUILT) == 3
    forget(Digits(10))
    assert Digits(60).on("cpu", torch.float32) is single
    assert Digits(10).on("cpu", torch.float32) is not few


def test_a_snapshot_saves_the_recipe_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    env, agent = Separation(count=1000), agents.Adam(lr=0.05)
    whole = rollout(env, agent, batch=2, steps=8)
    half = rollout(env, agent, batch=2, steps=3)
    path = save(tmp_path / "run", half)
    images = whole.state.problem.images.like(whole.merit)
    assert path.stat().st_size < images.x.nbytes / 4
    forget()
    restored = load(path, classes=(Problem, Digits))
    assert restored.state.problem.images == Digits(1000)
    resumed = rollout(env, agent, steps=5, resume=restored)
    for name, value in tensors(whole.state).items():
        assert torch.equal(value, tensors(resumed.state)[name]), name


def test_what_it_is_made_in_leaves_no_trace() -> None:
    @dataclass(frozen=True)
    class Drawn(Resource):
        def build(self, device: torch.device, dtype: torch.dtype) -> Images:
            torch.manual_seed(0)  # as networks of other packages are made
            return Images(torch.rand(5, 64, dtype=dtype), torch.ones(5, dtype=dtype))

    before = torch.get_rng_state()
    with torch.inference_mode():
        images = Drawn().on("cpu", torch.float32)
    assert not images.x.is_inference()
    assert (torch.get_rng_state() == before).all()
    weights = torch.zeros(64, requires_grad=True)
    (images.x @ weights).sum().backward()
    assert weights.grad is not None


def test_one_who_comes_while_it_is_made_waits() -> None:
    @dataclass(frozen=True)
    class Slow(Resource):
        def build(self, device: torch.device, dtype: torch.dtype) -> object:
            BUILT.append((self, device, dtype))
            time.sleep(0.1)
            return object()

    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(Slow().on("cpu", torch.float32))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(BUILT) == 1
    assert len(set(map(id, found))) == 1


def test_a_thing_may_be_made_of_others() -> None:
    @dataclass(frozen=True)
    class Mean(Resource):
        of: Digits = Digits(20)

        def build(self, device: torch.device, dtype: torch.dtype) -> Tensor:
            return self.of.on(device, dtype).x.mean(0)

    assert torch.equal(Mean().on("cpu", torch.float32), Digits(20).on("cpu", torch.float32).x.mean(0))


def test_a_failed_building_is_tried_again() -> None:
    tries = []

    @dataclass(frozen=True)
    class Absent(Resource):
        def build(self, device: torch.device, dtype: torch.dtype) -> int:
            tries.append(self)
            if len(tries) == 1:
                raise FileNotFoundError("weights")
            return 3

    with pytest.raises(FileNotFoundError, match="weights"):
        Absent().on("cpu", torch.float32)
    assert Absent().on("cpu", torch.float32) == 3


def test_recipes_that_do_not_name_their_thing_are_refused() -> None:
    class Undecorated(Digits):
        pass

    @dataclass(frozen=True)
    class Listed(Resource):
        widths: list[int]

        def build(self, device: torch.device, dtype: torch.dtype) -> list[int]:
            return self.widths

    with pytest.raises(TypeError, match=r"Undecorated: expected @dataclass\(frozen=True\) on the class"):
        Undecorated().on("cpu", torch.float32)
    with pytest.raises(TypeError, match=r"Listed: expected hashable fields .* got \{'widths': \[3\]\}"):
        Listed([3]).on("cpu", torch.float32)


def test_nothing_is_made_inside_a_record() -> None:
    with recording(), pytest.raises(RuntimeError, match="Digits: not made yet; ask it once before"):
        Digits().on("cpu", torch.float32)
    images = Digits().on("cpu", torch.float32)
    with recording():
        assert Digits().on("cpu", torch.float32) is images


def test_instances_of_a_restored_face_find_it(tmp_path: Path) -> None:
    one, other = (optenvs.TorchVectorEnv(Separation(), 2) for _ in range(2))
    one.reset(seed=3)
    action = normal(keys_from_seed(0, 2), "action", 64)
    one.step(action)
    other.set_state(load(save(tmp_path / "face", one.get_state()), classes=(Problem, Digits)))
    assert torch.equal(one.step(-action)[0]["value"], other.step(-action)[0]["value"])
