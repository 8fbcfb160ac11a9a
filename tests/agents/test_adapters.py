"""Functions, torch optimizers, trained policies and ask/tell objects as agents."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from stable_baselines3 import PPO, SAC

import agents
import optenvs
from optenvs.core import OptimizationEnv
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import Run
from optenvs.core.struct import tensors

STEPS = 15


def assert_same(one: Any, other: Any) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for path, leaf in left.items():
        assert torch.equal(leaf, right[path]), path


def assert_resumes(env: OptimizationEnv, agent: agents.Agent, tmp_path: Any, again: agents.Agent) -> Run:
    """A run of 15 steps is the same when it is saved after 8 and gone on with by another agent object."""
    whole = optenvs.rollout(env, agent, seed=4, batch=2, steps=STEPS)
    half = optenvs.rollout(env, agent, seed=4, batch=2, steps=8)
    optenvs.save(tmp_path / "run", half)
    rest = optenvs.rollout(env, again, steps=STEPS - 8, resume=optenvs.load(tmp_path / "run"))
    assert torch.equal(torch.cat([half.merit, rest.merit[1:]]), whole.merit)
    assert_same(rest.agent_state, whole.agent_state)
    return whole


def assert_pure(env: OptimizationEnv, agent: agents.Agent) -> None:
    """The same state and observation give the same action, in any order of calls."""
    keys = keys_from_seed(0, 2)
    episode = env.reset(keys)
    memory = agent.init(episode.problem, episode.observation, keys)
    path = []
    for _ in range(6):
        path.append((memory, episode.observation, *agent.act(memory, episode.observation)))
        episode, memory = env.step(episode, path[-1][2]), path[-1][3]
    for before, seen, action, after in path[::-1]:
        again, state = agent.act(before, seen)
        assert torch.equal(action, again)
        assert_same(after, state)


# Functions -------------------------------------------------------------------------------------


def test_a_function_is_an_agent(quadratic: OptimizationEnv) -> None:
    descent = agents.from_function(lambda seen: seen["point"] - 0.1 * seen["gradient"], needs=("gradient",))
    run = optenvs.rollout(quadratic, descent, batch=3, steps=STEPS)
    expected = optenvs.rollout(quadratic, agents.SGD(lr=0.1), batch=3, steps=STEPS)
    assert torch.allclose(run.merit, expected.merit, rtol=1e-13)
    with pytest.raises(OracleMismatch, match="needs the oracle"):
        optenvs.rollout(optenvs.make("Quadratic", oracle="value"), descent, steps=1)
    with pytest.raises(TypeError, match="function: expected a callable, got float"):
        agents.from_function(0.1)
    with pytest.raises(TypeError, match="needs: expected a tuple"):
        agents.from_function(lambda seen: seen["point"], needs="gradient")


# torch.optim -----------------------------------------------------------------------------------

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "NAdam": (torch.optim.NAdam, {"lr": 0.1}),  # keeps a product of its own
    "Rprop": (torch.optim.Rprop, {"lr": 0.1}),
    "Adam, amsgrad": (torch.optim.Adam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    "SGD": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "AdaBelief": (pytorch_optimizer.AdaBelief, {"lr": 0.1, "rectify": True}),
    "DiffGrad": (pytorch_optimizer.DiffGrad, {"lr": 0.1, "weight_decay": 0.1}),
    "Lamb": (pytorch_optimizer.Lamb, {"lr": 0.01}),  # looks at the norm of the whole tensor
    "Lion": (pytorch_optimizer.Lion, {"lr": 0.01}),
    "a factory": (lambda parameters: torch.optim.RMSprop(parameters, lr=0.05, centered=True), {}),
}


def native(env: OptimizationEnv, make: Any, options: dict[str, Any], index: int) -> torch.Tensor:
    """The merits of one instance when the optimizer is used as its authors mean it to be."""
    episode = env.reset(keys_from_seed(4, 1, first=index))
    parameter = torch.nn.Parameter(episode.observation["point"][0].clone())
    optimizer = make([parameter], **options)
    merits = [episode.merit]
    for _ in range(STEPS):
        parameter.grad = episode.observation["gradient"][0].clone()
        optimizer.step()
        episode = env.step(episode, parameter.detach().clone().unsqueeze(0))
        merits.append(episode.merit)
    return torch.cat(merits)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_torch_optimizer_is_an_agent(name: str, quadratic: OptimizationEnv, tmp_path: Any) -> None:
    make, options = OPTIMIZERS[name]
    agent = agents.from_torch(make, **options)
    run = assert_resumes(quadratic, agent, tmp_path, agents.from_torch(make, **options))
    for i in range(2):
        assert torch.allclose(run.merit[:, i], native(quadratic, make, options, i), rtol=1e-12, atol=0)
    assert (run.merit[-1] < run.merit[0]).all()
    assert_pure(quadratic, agent)


PLAIN = {
    "SWATS": {"lr": 1e-3},  # changes its phase, a word of its group, and its memory with it
    "AdaBelief": {"lr": 0.01},
    "Adan": {"lr": 0.01},
    "DAdaptAdam": {},  # its step size is a number of the group
    "Prodigy": {},
    "Lion": {"lr": 0.01},
    "MADGRAD": {"lr": 0.01},
    "ScheduleFreeAdamW": {"lr": 0.01},
    "Tiger": {"lr": 0.01},
    "Yogi": {"lr": 0.01},
}


@pytest.mark.parametrize("name", PLAIN)
def test_from_torch_is_a_plain_loop(name: str) -> None:
    env = optenvs.make("Rosenbrock", dim=4, dtype="float64", tolerance=None)
    make = getattr(pytorch_optimizer, name)
    run = optenvs.rollout(env, agents.from_torch(make, **PLAIN[name]), seed=0, batch=2, steps=30)
    for row in range(2):
        start = env.reset(keys_from_seed(0, 2)).observation["point"][row]
        point = torch.nn.Parameter(start.clone())
        optimizer = make([point], **PLAIN[name])
        values = []
        for _ in range(31):
            value = env.value(point.unsqueeze(0), None).squeeze(0)
            values.append(float(value.detach()))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        assert run.merit[:, row].tolist() == pytest.approx(values, rel=1e-9)


def test_from_torch_keeps_words_and_phases(tmp_path: Any) -> None:
    env = optenvs.make("Rosenbrock", dim=4, dtype="float64", tolerance=None)
    make = lambda: agents.from_torch(pytorch_optimizer.SWATS)  # noqa: E731
    run = optenvs.rollout(env, make(), seed=0, steps=5)
    assert {name.split(" ")[1] for name in run.agent_state.memory} == {"tensor", "number", "word"}
    assert_resumes(env, make(), tmp_path, make())


class Hiding(torch.optim.SGD):
    """Remembers what no agent could carry."""

    kept: str = "attribute"

    def step(self, closure: Any = None) -> None:
        super().step()
        group = self.param_groups[0]
        if self.kept == "attribute":
            self.inner = {"moment": group["params"][0].detach().clone()}
        elif self.kept == "tuple":
            group["betas"] = (0.9, group.get("betas", (0.9, 0.0))[1] + 0.1)
        elif self.kept == "key":
            self.state[object()] = {"step": 1}
        elif self.kept == "name":
            self.state["count"] = self.state.get("count", 0) + 1
            group["params"][0].data += 0.1 * self.state["count"]


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("attribute", "Hiding remembers inner outside its state"),
        ("tuple", "Hiding remembers a tuple as 'betas'"),
        ("key", "Hiding keeps state of a object, which is neither its parameter nor a name"),
    ],
)
def test_from_torch_refuses_what_it_cannot_carry(kept: str, message: str, quadratic: OptimizationEnv) -> None:
    made = type("Hiding", (Hiding,), {"kept": kept})
    with pytest.raises(TypeError, match=message):
        optenvs.rollout(quadratic, agents.from_torch(made, lr=0.1), steps=1)
    ranger = agents.from_torch(pytorch_optimizer.Ranger21, lr=0.01, num_iterations=50)
    with pytest.raises(TypeError, match="from_torch: Ranger21 remembers current_lr, lookahead_step outside"):
        optenvs.rollout(quadratic, ranger, steps=1)
    named = type("Hiding", (Hiding,), {"kept": "name"})
    run = optenvs.rollout(quadratic, agents.from_torch(named, lr=0.1), steps=4)
    assert run.agent_state.memory["loose number count"].tolist() == [4]


def test_from_torch_is_the_agent_of_the_same_name(quadratic: OptimizationEnv) -> None:
    one = optenvs.rollout(quadratic, agents.from_torch(torch.optim.Adam, lr=0.1), batch=3, steps=STEPS)
    other = optenvs.rollout(quadratic, agents.Adam(lr=0.1), batch=3, steps=STEPS)
    assert torch.allclose(one.merit, other.merit, rtol=1e-12)


class Counting(torch.optim.SGD):
    """Remembers where nobody looks."""

    steps = 0

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        self.steps += 1


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (torch.optim.LBFGS, {}, "LBFGS.step.. without a closure failed"),
        (Counting, {"lr": 0.1}, "Counting remembers steps outside its state"),
        (torch.optim.Adam, {"learning_rate": 0.1}, "learning_rate"),
        (lambda parameters: None, {}, "expected it to make a torch.optim.Optimizer, got NoneType"),
        ("adam", {}, "expected a class or a function that makes one, got str"),
    ],
)
def test_what_cannot_be_adapted_says_why(
    make: Any, options: dict[str, Any], message: str, quadratic: OptimizationEnv
) -> None:
    with pytest.raises(TypeError, match=message):
        optenvs.rollout(quadratic, agents.from_torch(make, **options), steps=1)


# Stable-Baselines3 -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ppo() -> PPO:
    env = optenvs.make_sb3("Quadratic", num_envs=4, dim=2, budget=11, tolerance=None)
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")
    return model.learn(64)


@pytest.fixture
def trained_on() -> OptimizationEnv:
    return optenvs.make("Quadratic", dim=2, budget=11, tolerance=None, bounds="domain")


def test_a_trained_model_is_an_agent(ppo: PPO, trained_on: OptimizationEnv, tmp_path: Any) -> None:
    agent = agents.from_sb3(ppo)
    run = optenvs.rollout(trained_on, agent, seed=2, batch=3, record=("point", "gradient", "value", "k", "N"))
    for k in range(10):
        for i in range(3):
            seen = {name: value[k, i].numpy() for name, value in run.recorded.items()}
            expected, _ = ppo.predict(seen, deterministic=True)
            assert np.allclose(run.recorded["point"][k + 1, i].numpy(), expected, atol=1e-6)
    assert_pure(trained_on, agent)


def test_a_stochastic_policy_draws_from_keys(ppo: PPO, trained_on: OptimizationEnv, tmp_path: Any) -> None:
    agent = agents.from_sb3(ppo, deterministic=False)
    before = torch.get_rng_state()
    assert_pure(trained_on, agent)
    assert torch.equal(before, torch.get_rng_state())
    env = trained_on.replace(budget=STEPS + 1)
    noisy = assert_resumes(env, agent, tmp_path, agents.from_sb3(ppo, deterministic=False))
    assert not torch.equal(noisy.merit, optenvs.rollout(env, agents.from_sb3(ppo), seed=4, batch=2).merit)


def test_a_squashed_policy_is_unscaled(trained_on: OptimizationEnv) -> None:
    env = optenvs.make_sb3("Quadratic", dim=2, budget=11, tolerance=None)
    model = SAC("MultiInputPolicy", env, seed=0, device="cpu", buffer_size=100)
    model.policy.actor.mu.weight.data *= 1000  # far into the corners of the box
    run = optenvs.rollout(trained_on, agents.from_sb3(model), batch=2, steps=1, record=("point",))
    low, high = env.action_space.low[0], env.action_space.high[0]
    corners = (run.recorded["point"][1] - (low + high) / 2).abs() / ((high - low) / 2)
    assert (corners > 0.9).any() and (corners <= 1 + 1e-6).all()


def test_a_model_for_another_problem_is_refused(ppo: PPO) -> None:
    with pytest.raises(ValueError, match="the model was trained on .* but this environment shows"):
        optenvs.rollout(optenvs.make("Quadratic", dim=3, bounds="domain"), agents.from_sb3(ppo), steps=1)
    with pytest.raises(TypeError, match="model: expected a Stable-Baselines3 model, got dict"):
        agents.from_sb3({})
    with pytest.raises(TypeError, match="trained on Dict observations"):
        agents.from_sb3(PPO("MlpPolicy", "Pendulum-v1", device="cpu"))


# ask and tell ----------------------------------------------------------------------------------


class OnePlusOne:
    """The (1+1) evolution strategy with the 1/5 success rule; asks its start first."""

    def __init__(self, start: np.ndarray, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.best, self.value, self.sigma = start, np.inf, 1.0

    def ask(self) -> np.ndarray:
        if np.isinf(self.value):
            return self.best
        return self.best + self.sigma * self.rng.normal(size=self.best.shape)

    def tell(self, point: np.ndarray, value: float) -> None:
        better = value <= self.value
        self.sigma *= 1.5 if better else 1.5**-0.25
        if better:
            self.best, self.value = point, value


class Population(OnePlusOne):
    """The (1, 5) strategy: populations as lists, values as arrays."""

    def ask(self) -> Any:
        return [self.best + self.sigma * self.rng.normal(size=self.best.shape) for _ in range(5)]

    def tell(self, points: Any, values: Any) -> None:
        assert len(points) == 5 and values.shape == (5,)
        self.best, self.sigma = points[int(values.argmin())], 0.9 * self.sigma


@pytest.mark.parametrize("strategy", [OnePlusOne, Population])
def test_an_ask_tell_object_is_an_agent(strategy: Any, tmp_path: Any) -> None:
    env = optenvs.make("Quadratic", dim=3, oracle="value", dtype="float64", budget=151, tolerance=None)
    agent = agents.from_ask_tell(strategy)
    run = optenvs.rollout(env, agent, seed=3, batch=2, record=("point",))
    assert (run.best[-1] < 0.05 * run.best[0]).all()
    # the loop by hand, for the second instance
    episode = env.reset(keys_from_seed(3, 1, first=1))
    by_hand = strategy(episode.observation["point"][0].numpy(), int(run.agent_state.seed[1]))
    step = 0
    while step < 150:
        asked = by_hand.ask()
        values = []
        for point in np.atleast_2d(asked):
            assert np.array_equal(run.recorded["point"][step + 1, 1].numpy(), point)
            episode = env.step(episode, torch.from_numpy(point).unsqueeze(0))
            values.append(episode.merit.item())
            step += 1
        by_hand.tell(asked, np.array(values) if len(values) > 1 else values[0])
    assert_pure(env, agent)
    assert_resumes(env, agent, tmp_path, agents.from_ask_tell(strategy))


class Limited:
    """A solver with a budget of its own, which it will not exceed: each row has another one."""

    def __init__(self, start: np.ndarray, seed: int) -> None:
        self.point, self.room, self.finished = start, 3 + seed % 3, False

    def ask(self) -> np.ndarray:
        assert not self.finished, "it has said that it had finished"
        self.room -= 1
        self.finished = self.room == 0
        self.point = 0.9 * self.point
        return self.point

    def tell(self, point: np.ndarray, value: float) -> None:
        assert not self.finished, "its last question is not asked"


def test_an_ask_tell_object_that_has_finished_is_left_alone(tmp_path: Any) -> None:
    env = optenvs.make("Quadratic", dim=2, oracle="value", tolerance=None, budget=40)
    agent = agents.from_ask_tell(Limited)
    run = optenvs.rollout(env, agent, seed=0, batch=6)
    rooms = 3 + run.agent_state.seed % 3
    assert len(set(rooms.tolist())) > 1 and run.finished.all()
    # the first question is the environment's own, the last one of the object is not asked
    assert run.calls["value"][-1].tolist() == rooms.tolist() == run.agent_state.count.tolist()
    assert_resumes(env, agent, tmp_path, agents.from_ask_tell(Limited))


def test_ask_tell_runs_without_a_budget() -> None:
    env = optenvs.make("Quadratic", dim=2, oracle="value", budget=None, tolerance=None)
    run = optenvs.rollout(env, agents.from_ask_tell(OnePlusOne), steps=300)
    assert run.agent_state.values.shape[1] >= 299
    assert run.best[-1] < 1e-3 * run.best[0]


def test_an_object_that_is_no_function_of_its_seed_is_noticed(tmp_path: Any) -> None:
    env = optenvs.make("Quadratic", dim=2, oracle="value", budget=20, tolerance=None)
    seeds = iter(range(100))
    agent = agents.from_ask_tell(lambda start, seed: OnePlusOne(start, next(seeds)))
    half = optenvs.rollout(env, agent, steps=8)
    with pytest.raises(RuntimeError, match="asks something else when it is rebuilt"):
        optenvs.rollout(env, agents.from_ask_tell(agent.factory), steps=3, resume=half)


def test_what_ask_returns_is_checked() -> None:
    env = optenvs.make("Quadratic", dim=2, oracle="value")

    class Wrong(OnePlusOne):
        def ask(self) -> np.ndarray:
            return np.zeros(3)

    with pytest.raises(ValueError, match="expected points of 2 coordinates, got 3"):
        optenvs.rollout(env, agents.from_ask_tell(Wrong), steps=1)
    with pytest.raises(TypeError, match="factory: expected a callable, got OnePlusOne"):
        agents.from_ask_tell(OnePlusOne(np.zeros(2), 0))


def test_adapters_load_only_what_they_need() -> None:
    script = (
        "import sys, agents\n"
        "assert 'torch' not in sys.modules\n"
        "agents.from_torch, agents.from_sb3, agents.from_ask_tell, agents.from_function, agents.bind\n"
        "assert not {'stable_baselines3', 'pytorch_optimizer', 'matplotlib'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


class Counting:
    """A recurrent policy by the protocol of Stable-Baselines3, with its layers before its instances."""

    def __init__(self, core: OptimizationEnv, forget: Any = None) -> None:
        self.policy, self.observation_space, self.action_space = (
            self,
            core.observation_space,
            core.action_space,
        )
        self.forget = forget

    def predict(
        self, seen: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        point = seen["point"]
        layers = np.zeros((2, *point.shape), np.float32) if state is None else state[0].copy()
        count = np.zeros(len(point), np.int64) if state is None else state[1].copy()
        if episode_start is not None:
            layers[:, episode_start], count[episode_start] = 0.0, 0
        layers[0] += point
        layers[1] -= 0.1 * point
        after = (layers, count + 1) if self.forget is None else self.forget
        return 0.5 * point + 0.1 * layers.sum(0) / (count[:, None] + 1), after


def test_from_sb3_carries_what_a_recurrent_policy_remembers(tmp_path: Any) -> None:
    env = optenvs.make("Quadratic", dim=2, budget=None, tolerance=None)  # as many layers as instances
    agent = agents.from_sb3(Counting(env))
    run = assert_resumes(env, agent, tmp_path, agents.from_sb3(Counting(env)))
    assert_pure(env, agent)
    policy, memory, state = Counting(env), None, env.reset(keys_from_seed(4, 2))
    for step in range(1, STEPS + 1):
        seen = {name: value.numpy() for name, value in state.observation.items()}
        action, memory = policy.predict(seen, state=memory, episode_start=np.full(2, step == 1))
        state = env.step(state, torch.from_numpy(action).float())
        assert torch.equal(run.merit[step], state.merit)
    assert run.agent_state.recurrent[1].tolist() == [STEPS, STEPS]
    with pytest.raises(
        TypeError, match="from_sb3: the policy remembers dict; only a tuple of arrays can be kept"
    ):
        optenvs.rollout(env, agents.from_sb3(Counting(env, forget={"a": 1})), steps=1)
