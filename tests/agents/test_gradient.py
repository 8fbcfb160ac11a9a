"""First-order agents: the updates of ``torch.optim``, over batches, and through autograd."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents import schedules
from optenvs.core import OptimizationEnv
from optenvs.core.errors import OracleMismatch, UnknownKeyword
from optenvs.core.random import keys_from_seed
from optenvs.core.shown import shown
from optenvs.core.struct import tensors, tree_map

STEPS = 12  # every power, maximum and switch of the updates is at work by then
BETAS = {"betas": [(0.9, 0.999), (0.0, 0.5), (0.5, 0.1)]}
DECAY = {"weight_decay": [0.0, 0.1]}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "sgd": {"lr": [1e-2, 0.3], "momentum": [0.0, 0.9], "dampening": [0.0, 0.5], "nesterov": [False, True]}
    | DECAY,
    "adam": {"lr": [1e-3, 0.3], "eps": [1e-8, 1e-2], "amsgrad": [False, True]} | BETAS | DECAY,
    "adamw": {"lr": [1e-3, 0.3], "eps": [1e-8, 1e-2], "amsgrad": [False, True]} | BETAS | DECAY,
    "nadamw": {"lr": [1e-3, 0.3], "eps": [1e-8, 1e-2], "momentum_decay": [4e-3, 0.3]} | BETAS | DECAY,
    "rmsprop": {"lr": [1e-3, 0.1], "alpha": [0.99, 0.5], "momentum": [0.0, 0.9], "centered": [False, True]}
    | DECAY,
    "adagrad": {"lr": [1e-2, 1.0], "lr_decay": [0.0, 0.1], "initial_accumulator_value": [0.0, 0.3]} | DECAY,
}
PEERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadamw": functools.partial(torch.optim.NAdam, decoupled_weight_decay=True),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
# every algorithm with the options that take another path through it
VARIANTS: dict[str, agents.Agent] = {
    "sgd": agents.SGD(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1),
    "adam": agents.Adam(lr=0.1),
    "amsgrad": agents.Adam(lr=0.1, amsgrad=True, weight_decay=0.1),
    "adamw": agents.AdamW(lr=0.1),
    "nadamw": agents.NAdamW(lr=0.1, momentum_decay=0.1),
    "rmsprop": agents.RMSprop(lr=0.05),
    "rmsprop centered": agents.RMSprop(lr=0.05, centered=True, momentum=0.9),
    "adagrad": agents.Adagrad(lr=0.5, lr_decay=0.1),
    "diffgrad": agents.DiffGrad(lr=0.1),
    "diffgrad signed": agents.DiffGrad(lr=0.1, dfc="signed", weight_decay=0.1),
    "diffgrad printed": agents.DiffGrad(lr=0.1, eps=1e-3, eps_inside_bias_correction=True),
    "diffgrad nine": agents.DiffGrad(lr=0.05, dfc="nine", weight_decay=0.1, weight_decouple=True),
    "diffgrad std": agents.DiffGrad(lr=0.1, dfc="std", eps_root=1e-15),
    "diffgrad aliased": agents.DiffGrad(lr=0.1, clone_prev=False),
    "adabelief": agents.AdaBelief(lr=0.1),
    "adabelief rectified": agents.AdaBelief(lr=0.1, rectify=True, weight_decay=0.1, weight_decouple=True),
    "adabelief amsgrad": agents.AdaBelief(lr=0.1, amsgrad=True),
    "adabelief 0.0.5": agents.AdaBelief(lr=0.1, amsgrad=True, rectify=True, semantics="0.0.5"),
}


def grid(name: str) -> list[dict[str, Any]]:
    names, values = zip(*GRIDS[name].items(), strict=True)
    every = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)]
    return [one for one in every if not (one.get("nesterov") and (one["dampening"] or not one["momentum"]))]


def replay(peer: Any, options: dict[str, Any], points: Tensor, gradients: Tensor) -> Tensor:
    """The path of a torch optimizer from the first of ``points`` along the same gradients.

    Torch's NAdam keeps the product of its momenta in the default dtype.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(points.dtype)
    try:
        return _replay(peer, options, points, gradients)
    finally:
        torch.set_default_dtype(before)


def _replay(peer: Any, options: dict[str, Any], points: Tensor, gradients: Tensor) -> Tensor:
    parameter = torch.nn.Parameter(points[0].clone())
    optimizer = peer([parameter], **options)
    path = [points[0]]
    for gradient in gradients[:-1]:
        parameter.grad = gradient.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("name", GRIDS)
def test_updates_are_those_of_torch(name: str, problem: OptimizationEnv) -> None:
    for options in grid(name):
        run = optenvs.rollout(
            problem, agents.make(name, **options), batch=2, steps=STEPS, record=("point", "gradient")
        )
        points, gradients = run.recorded["point"], run.recorded["gradient"]
        expected = replay(PEERS[name], options, points, gradients)
        assert expected.isfinite().all(), options
        error = ((points - expected).abs() / (1 + expected.abs())).max()
        assert error <= 1e-12, (options, error)
        assert (points[-1] - points[0]).abs().max() > 1e-3


def test_a_second_moment_without_memory(quadratic: OptimizationEnv) -> None:
    # a large eps: else a vanishing gradient throws the point out, and rounding with it
    options = {"lr": 0.1, "betas": (0.5, 0.0), "eps": 1e-2}
    run = optenvs.rollout(quadratic, agents.Adam(**options), steps=STEPS, record=("point", "gradient"))
    points, gradients = run.recorded["point"], run.recorded["gradient"]
    assert (points - replay(torch.optim.Adam, options, points, gradients)).abs().max() <= 1e-12


def test_centered_rmsprop_survives_a_constant_gradient() -> None:
    agent = agents.RMSprop(lr=0.1, centered=True, alpha=0.5)
    seen = {"point": torch.zeros(1, 3, dtype=torch.float64)}
    seen["gradient"] = torch.tensor([[0.1, 0.7, 1.3]], dtype=torch.float64)
    state = agent.init(None, seen, keys_from_seed(0, 1))
    for _ in range(200):  # until rounding leaves nothing of the variance
        action, state = agent.act(state, seen)
        assert action.isfinite().all()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_tensor_of_learning_rates_is_a_batch_of_runs(name: str, quadratic: OptimizationEnv) -> None:
    agent, rates = VARIANTS[name], torch.tensor([0.01, 0.1, 0.05], dtype=torch.float64)
    keys = keys_from_seed(1, 1)
    batch = optenvs.rollout(quadratic, agent.replace(lr=rates), keys=keys.expand(3).clone(), steps=STEPS)
    for i, rate in enumerate(rates.tolist()):
        alone = optenvs.rollout(quadratic, agent.replace(lr=rate), keys=keys, steps=STEPS)
        assert torch.allclose(batch.merit[:, i], alone.merit[:, 0], rtol=1e-11, atol=1e-14)
    assert len(set(batch.merit[1].tolist())) == 3


def test_a_tensor_of_learning_rates_does_not_widen_the_point() -> None:
    env = optenvs.make("Quadratic", dim=3)
    for agent in VARIANTS.values():
        rates = torch.full((2,), 0.1, dtype=torch.float64)
        assert optenvs.rollout(env, agent.replace(lr=rates), batch=2, steps=3).merit.dtype == torch.float32


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_is_a_run_of_its_own(name: str, quadratic: OptimizationEnv) -> None:
    batch = optenvs.rollout(quadratic, VARIANTS[name], seed=3, batch=3, steps=STEPS, record=("point",))
    for i in (0, 2):
        keys = keys_from_seed(3, 1, first=i)
        alone = optenvs.rollout(quadratic, VARIANTS[name], keys=keys, steps=STEPS, record=("point",))
        found = batch.recorded["point"][:, i : i + 1]
        assert torch.allclose(found, alone.recorded["point"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_may_be_at_different_steps(name: str, quadratic: OptimizationEnv) -> None:
    agent = VARIANTS[name]
    late = optenvs.rollout(quadratic, agent, batch=2, steps=7)
    early = optenvs.rollout(quadratic, agent, batch=2, steps=1)
    states = [run.agent_state for run in (early, late)]
    seen = [run.state.observation for run in (early, late)]
    mixed = [tree_map(lambda a, b: torch.stack((a[0], b[1])), *trees) for trees in (states, seen)]
    action, _ = agent.act(*mixed)
    for row, state, observation in zip((0, 1), states, seen, strict=True):
        expected, _ = agent.act(state, observation)
        assert torch.allclose(action[row], expected[row], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", VARIANTS)
def test_act_is_pure(name: str, problem: OptimizationEnv) -> None:
    agent = VARIANTS[name]
    run = optenvs.rollout(problem, agent, batch=2, steps=3)
    inputs = {**tensors(run.agent_state), **run.state.observation}
    before = {path: leaf.clone() for path, leaf in inputs.items()}
    versions = {path: leaf._version for path, leaf in inputs.items()}
    with torch.no_grad():
        first, again = (agent.act(run.agent_state, run.state.observation) for _ in range(2))
    for path, leaf in inputs.items():
        assert torch.equal(leaf, before[path]) and leaf._version == versions[path], path
    assert torch.equal(first[0], again[0])
    one, other = tensors(first[1]), tensors(again[1])
    assert all(torch.equal(leaf, other[path]) for path, leaf in one.items())
    # what one call returns is not written over by the next
    kept = {path: leaf.clone() for path, leaf in one.items()}
    with torch.no_grad():
        agent.act(first[1], run.state.observation | {"point": first[0]})
    assert all(torch.equal(leaf, kept[path]) for path, leaf in tensors(first[1]).items())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", VARIANTS)
def test_recycled_memory_changes_nothing(
    name: str, batch: int, problem: OptimizationEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, keys = VARIANTS[name], keys_from_seed(7, batch)

    def path() -> list[dict[str, Tensor]]:
        """All points and states, not copied."""
        state, seen = problem.reset(keys), []
        memory = agent.init(state.problem, state.observation, keys)
        for _ in range(6):
            with torch.no_grad():
                point, memory = agent.act(memory, state.observation)
                state = problem.step(state, point)
            seen.append({"point": point, **tensors(memory)})
        return seen

    expected = path()
    monkeypatch.setattr("optenvs.core.memory.SMALLEST", 0)
    for _ in range(2):  # the second time in the memory of the first
        found = path()
        for one, other in zip(found, expected, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(leaf, other[field]) for field, leaf in one.items())
        recycled = [not leaf.untyped_storage().resizable() for one in found for leaf in one.values()]
        assert sum(recycled) >= 6, "memory was not recycled in every step"
        del found


@pytest.mark.parametrize("name", VARIANTS)
def test_steps_on_many_parameters_need_no_new_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, gradient = VARIANTS[name], torch.linspace(-1, 1, 300_000).unsqueeze(0)
    seen = {"point": torch.ones_like(gradient), "gradient": gradient}
    state = agent.init(None, seen, keys_from_seed(0, 1))
    with torch.no_grad():
        for step in range(8):
            if step == 4:  # from here on every block comes back in time
                monkeypatch.delattr("optenvs.core.memory._allocate")
            seen["point"], state = agent.act(state, seen)
    assert not seen["point"].untyped_storage().resizable(), "its memory was not recycled"


@pytest.mark.parametrize("name", VARIANTS)
def test_resumed_bit_for_bit(name: str, problem: OptimizationEnv, tmp_path: Any) -> None:
    agent = VARIANTS[name]
    whole = optenvs.rollout(problem, agent, seed=4, batch=2, steps=12)
    half = optenvs.rollout(problem, agent, seed=4, batch=2, steps=7)
    optenvs.save(tmp_path / "run", half)
    rest = optenvs.rollout(problem, agent, steps=5, resume=optenvs.load(tmp_path / "run"))
    assert torch.equal(torch.cat([half.merit, rest.merit[1:]]), whole.merit)
    left, right = tensors(rest.agent_state), tensors(whole.agent_state)
    assert left.keys() == right.keys() and all(torch.equal(left[path], right[path]) for path in left)


def final(env: OptimizationEnv, agent: agents.Agent, **options: Any) -> Tensor:
    """The last value of each row."""
    return optenvs.unroll(env, agent, seed=5, batch=2, steps=9, **options).metrics["value"][-1]


@pytest.mark.parametrize("name", VARIANTS)
def test_unrolled_gradients_are_finite_differences(name: str, problem: OptimizationEnv) -> None:
    agent, rates = VARIANTS[name], torch.tensor([0.02, 0.03], dtype=torch.float64)
    lr = rates.clone().requires_grad_()
    (slope,) = torch.autograd.grad(final(problem, agent.replace(lr=lr)).sum(), lr)
    # a row sees its own rate alone, so both are moved at once
    ends = [final(problem, agent.replace(lr=rates + nudge)) for nudge in (1e-6, -1e-6)]
    expected = (ends[0] - ends[1]) / 2e-6
    assert torch.allclose(slope, expected, rtol=2e-5, atol=1e-7), (slope, expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_first_order_gradients_hold_the_oracle_constant(name: str, problem: OptimizationEnv) -> None:
    agent, rate = VARIANTS[name], torch.tensor([0.02, 0.03], dtype=torch.float64)
    lr = rate.clone().requires_grad_()
    (slope,) = torch.autograd.grad(final(problem, agent.replace(lr=lr), second_order=False).sum(), lr)
    kept = ("point", "gradient")
    run = optenvs.rollout(problem, agent.replace(lr=rate), seed=5, batch=2, steps=9, record=kept)

    def value(rates: Tensor) -> Tensor:
        """The value after the same steps, with the gradients of the path above."""
        stepping, point, state = agent.replace(lr=rates), run.recorded["point"][0], None
        for gradient in run.recorded["gradient"][:-1]:
            seen = {"point": point, "gradient": gradient}
            state = stepping.init(None, seen, keys_from_seed(0, 2)) if state is None else state
            point, state = stepping.act(state, seen)
        return problem.step(run.state, point).metrics["value"].sum()

    with torch.no_grad():
        nudges = torch.eye(2, dtype=torch.float64) * 1e-6
        expected = torch.stack([(value(rate + nudge) - value(rate - nudge)) / 2e-6 for nudge in nudges])
    assert torch.allclose(slope, expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", VARIANTS)
def test_unrolling_survives_a_coordinate_without_gradient(name: str) -> None:
    env = optenvs.from_function(lambda x: (x[0] - 2) ** 2, dim=2, dtype="float64")
    lr = torch.tensor([0.05, 0.05], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(final(env, VARIANTS[name].replace(lr=lr)).sum(), lr)
    assert slope.isfinite().all() and (slope != 0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_act_runs_inside_vmap(name: str, quadratic: OptimizationEnv) -> None:
    agent = VARIANTS[name]
    run = optenvs.rollout(quadratic, agent, batch=3, steps=4)
    memory, seen = run.agent_state, run.state.observation

    def act(leaves: dict[str, Tensor], seen: dict[str, Tensor]) -> Tensor:
        return agent.act(type(memory)(**{field: leaves.get(field) for field in vars(memory)}), seen)[0]

    leaves, shown = ({k: v.unsqueeze(1) for k, v in tree.items()} for tree in (tensors(memory), seen))
    with torch.no_grad():
        expected, _ = agent.act(memory, seen)
        action = torch.func.vmap(act)(leaves, shown)
        # the memory may be shared by what is mapped over, too
        shared = torch.func.vmap(lambda g: agent.act(memory, seen | {"gradient": g})[0])(
            torch.stack([seen["gradient"], 2 * seen["gradient"]])
        )
    assert torch.allclose(action.squeeze(1), expected, rtol=0, atol=1e-14)
    assert torch.allclose(shared[0], expected, rtol=0, atol=1e-14)


SCHEDULES = {
    schedules.Cosine(floor=0.1): lambda k, n: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / n)),
    schedules.Linear(floor=0.2): lambda k, n: 1 - 0.8 * k / n,
    schedules.Steps(at=(0.5,), factor=0.1): lambda k, n: 0.1 if k / n >= 0.5 else 1.0,
    schedules.InverseSqrt(): lambda k, n: (k + 1) ** -0.5,
}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_schedules_are_torchs_lambda_rates(name: str, schedule: Any, quadratic: OptimizationEnv) -> None:
    env = quadratic.replace(budget=21)
    run = optenvs.rollout(env, agents.make(name, lr=0.1, schedule=schedule), record=("point", "gradient"))
    points, gradients = run.recorded["point"], run.recorded["gradient"]
    parameter = torch.nn.Parameter(points[0].clone())
    optimizer = PEERS[name]([parameter], lr=0.1)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: SCHEDULES[schedule](k, 20))
    for k in range(20):
        parameter.grad = gradients[k].clone()
        optimizer.step()
        rate.step()
        assert torch.allclose(parameter.detach(), points[k + 1], rtol=0, atol=1e-12), k


def test_a_schedule_over_the_horizon_needs_one(quadratic: OptimizationEnv) -> None:
    with pytest.raises(ValueError, match="needs a horizon"):
        optenvs.rollout(quadratic, agents.Adam(schedule=schedules.Cosine()), steps=2)


def test_unknown_hyperparameters_are_named() -> None:
    with pytest.raises(UnknownKeyword, match="adam got an unexpected keyword argument 'beta1'"):
        agents.make("adam", beta1=0.5)
    with pytest.raises(UnknownKeyword, match="unexpected keyword argument 'dcf'; did you mean 'dfc'"):
        agents.DiffGrad().replace(dcf="abs")


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("adam", "lr", 0.0, "a number > 0"),
        ("adam", "lr", float("nan"), "a number > 0"),
        ("diffgrad", "lr", torch.tensor([0.1, -0.1]), "a number > 0"),
        ("adamw", "betas", (0.9, 1.0), "two numbers in [0, 1)"),
        ("adabelief", "betas", 0.9, "two numbers in [0, 1)"),
        ("adam", "eps", -1e-8, "a number >= 0"),
        ("diffgrad", "weight_decay", -0.1, "a number >= 0"),
        ("diffgrad", "dfc", "absolute", "one of abs, signed, nine, std, var, sqrtstd"),
        ("diffgrad", "eps_root", -1.0, "a number >= 0"),
        ("adabelief", "semantics", "0.1", "'0.2' or '0.0.5'"),
        ("adabelief", "fixed_decay", True, "weight_decouple with it"),
        ("rmsprop", "alpha", 1.0, "a number in [0, 1)"),
        ("rmsprop", "momentum", -0.1, "a number >= 0"),
        ("adagrad", "lr_decay", -1.0, "a number >= 0"),
    ],
)
def test_bad_values_name_the_field(name: str, field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is checked below
        agents.make(name, **{field: value})
    assert str(caught.value).endswith(f": {field}: expected {expected}, got {shown(value)}")


def test_a_missing_oracle_is_named() -> None:
    env = optenvs.make("Quadratic", oracle="value")
    with pytest.raises(OracleMismatch, match="agent DiffGrad needs the oracle"):
        optenvs.rollout(env, agents.DiffGrad(), steps=1)
