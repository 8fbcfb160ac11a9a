"""The problems of group arithmetic: networks, losses, splits, data that are given, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import agents
import optenvs
from optenvs.core.oracles import value_and_gradient
from optenvs.core.random import keys_from_seed, normal

KEYS = keys_from_seed(0, 3)


def grokking(**keywords: Any) -> Any:
    return optenvs.make("GroupGrokking", **({"group": "S3", "width": 5} | keywords))


@pytest.mark.parametrize("loss", ["code", "theory", "nll"])
@pytest.mark.parametrize(
    "own", [{}, {"activation": "silu", "multiplier": 0.7, "decay": 0.3}, {"activation": "relu_squared"}]
)
def test_the_gradient_by_hand_is_that_of_autograd(loss: str, own: dict[str, Any]) -> None:
    env = grokking(loss=loss, **own)
    state = env.reset(KEYS)
    point = state.observation["point"] + 0.3
    part = env.part(state.hidden.train)
    value, slope = env.objective.value_and_gradient(point, part)
    expected = value_and_gradient(lambda x: env.objective.value(x, part), point)
    assert torch.allclose(value, expected[0]) and torch.allclose(slope, expected[1])
    vector = normal(KEYS, "vector", point.shape[1], dtype=torch.float64)
    told, slope_too, product = env.objective.hvp(point, part, vector)
    assert torch.allclose(told, value) and torch.allclose(slope_too, slope)
    by = torch.func.jvp(
        lambda x: value_and_gradient(lambda y: env.objective.value(y, part), x)[1], (point,), (vector,)
    )
    assert torch.allclose(product, by[1])


def test_the_losses_are_those_of_their_formulas() -> None:
    env = grokking(loss="code")
    state = env.reset(KEYS)
    part = env.part(state.hidden.train)
    weights = env.network.unflatten(state.observation["point"])
    w, v = weights["hidden.weight"][0], weights["output.weight"][0]
    one = torch.eye(6, dtype=torch.float64)
    x = torch.cat((one[part.inputs[0, :, 0]], one[part.inputs[0, :, 1]]), 1)
    outputs, y = (x @ w.T).square() @ v.T, one[part.targets[0]]
    centred = outputs - outputs.mean(1, keepdim=True)
    code = (centred.square().sum(1) - 2 * (centred * y).sum(1)).mean() + 1 - 1 / 6
    rest = y - outputs
    theory = (rest - rest.mean(0)).square().sum() / 2
    nll = torch.nn.functional.cross_entropy(outputs, part.targets[0])
    for name, expected in (("code", code), ("theory", theory), ("nll", nll)):
        told = grokking(loss=name).reset(KEYS).observation["value"][0, 0]
        assert torch.allclose(told, expected)
    table = env.algebra.table
    assert part.targets[0].tolist() == table[part.inputs[0, :, 0], part.inputs[0, :, 1]].tolist()


@pytest.mark.parametrize(
    "own",
    [
        {"layers": 2, "activation": "relu"},
        {"layers": 1, "residual": False},
        {"complex_weights": True},
        {"complex_weights": True, "activation": "product"},
        {"operands": 3},
        {"activation": "product", "operands": 3},
        {"group": "Z5", "expression": "x^2+x*y+y^2"},
        {"ratio": 0.7},
        {"fraction": 1.0},
    ],
)
def test_every_form_answers_with_its_slope(own: dict[str, Any]) -> None:
    env = grokking(**own)
    report = optenvs.check(env)
    assert "FAILED" not in str(report)
    state = env.reset(KEYS)
    assert state.observation["gradient"].isfinite().all()
    run = optenvs.rollout(env, agents.Muon(lr=1e-2), batch=3, steps=60)
    assert bool((run.best[-1] < 0.98 * run.best[0]).all())


def test_many_networks_at_once_are_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    env = grokking()
    point = env.reset(keys_from_seed(0, 7)).observation["point"]
    whole = env.step(env.reset(keys_from_seed(0, 7)), point + 0.1).observation["gradient"]
    monkeypatch.setattr("optenvs.envs.grokking.objective._CACHED", 2 * 5 * env.train_count)
    pieces = env.step(env.reset(keys_from_seed(0, 7)), point + 0.1).observation["gradient"]
    assert torch.equal(whole, pieces)


def test_splits_are_each_instances_own_and_whole() -> None:
    env = grokking()
    hidden = env.reset(KEYS).hidden
    assert hidden.train.shape == (3, 28)
    every = torch.cat((hidden.train, hidden.test), 1).sort(1).values
    assert torch.equal(every, torch.arange(36).expand(3, -1))
    assert not torch.equal(hidden.train[0], hidden.train[1])


def test_given_pairs_and_weights_are_used() -> None:
    size = grokking().network.size
    data = {"train": [0, 7, 35, 3], "weights": np.linspace(-1, 1, size)}
    env = grokking(data=data)
    state = env.reset(KEYS)
    assert state.hidden.train.tolist() == [[0, 7, 35, 3]] * 3
    assert state.hidden.test.shape == (3, 32)
    assert np.allclose(state.observation["point"][1], data["weights"])
    report = optenvs.check(env)
    assert "FAILED" not in str(report)


def test_the_goal_ends_an_episode() -> None:
    env = optenvs.make("GroupGrokking", goal=0.95, v_init=0.0, dtype="float32")
    run = optenvs.rollout(env, agents.Adam(lr=5e-3, weight_decay=5e-5), batch=2, steps=300)
    assert bool(run.state.terminated.all())
    assert bool((run.state.metrics["test_accuracy"] > 0.95).all())
    assert int(run.state.k.max()) < 150


def test_the_ridge_top_is_the_best_one() -> None:
    env: Any = optenvs.make("RidgeTop", group="S3", width=4, eta=0.3)
    state = env.reset(KEYS)
    point, part = state.observation["point"], env.part(state.hidden.train)
    features = env.network.features(env.network.unflatten(point), part.inputs)
    labels = torch.eye(6, dtype=torch.float64)[part.targets]
    f, y = features - features.mean(1, keepdim=True), labels - labels.mean(1, keepdim=True)
    v = torch.linalg.solve(f.mT @ f + 0.3 * torch.eye(4), f.mT @ y)
    loss = ((y - f @ v).square().sum((1, 2)) + 0.3 * v.square().sum((1, 2))) / 2 / env.train_count
    assert torch.allclose(state.observation["value"].squeeze(1), loss)

    def value(x: torch.Tensor) -> torch.Tensor:
        return env.step(state, x).observation["value"].squeeze(1)

    vector = normal(KEYS, "vector", point.shape[1], dtype=torch.float64)
    slope = (value(point + 1e-6 * vector) - value(point - 1e-6 * vector)) / 2e-6
    assert torch.allclose((state.observation["gradient"] * vector).sum(1), slope, rtol=1e-6, atol=1e-9)
    wide: Any = optenvs.make("RidgeTop", group="S3", width=60, eta=0.3)  # the other form of the system
    assert optenvs.check(wide)


def test_a_system_that_cannot_be_solved_ends_its_row_alone() -> None:
    env: Any = optenvs.make("RidgeTop", group="S3", width=40, eta=1e-30)
    state = env.reset(KEYS)
    point = state.observation["point"].clone()
    point[1] = 0.0  # no features: the system is eta itself
    point[2] *= 1e6
    after = env.step(env.reset(KEYS), point)
    assert bool(after.diverged[2]) and not bool(after.diverged[1])


def test_a_node_without_direction_stays() -> None:
    env: Any = optenvs.make("FeatureEnergy", group="Z5", nodes=3)
    state = env.reset(KEYS)
    points = state.observation["point"].clone()
    points[:, 1] = 0.0
    points[:, 2] *= 5.0
    after = env.step(state, points)
    assert torch.allclose(after.observation["point"], state.observation["point"])


def test_a_node_that_is_no_number_ends_its_row_alone() -> None:
    env: Any = optenvs.make("FeatureEnergy", group="Z5", nodes=3)
    state = env.reset(KEYS)
    points = state.observation["point"].clone()
    points[1, 0, 2] = torch.nan
    assert env.step(state, points).diverged.tolist() == [False, True, False]


def test_what_is_fitted_is_not_missing() -> None:
    env: Any = optenvs.make("FeatureEnergy", group="Z7", nodes=6, fitted=(2,))
    run = optenvs.rollout(env, agents.EnergyAscent(), batch=3, steps=400)
    assert bool(run.state.terminated.all())
    assert bool((run.metrics["covered"][-1] == 2).all())


def test_nodes_follow_an_energy_of_some_pairs_and_activations() -> None:
    for own in ({"fraction": 0.7}, {"activation": "relu"}, {"fraction": 0.9, "fitted": (1,)}):
        env: Any = optenvs.make("FeatureEnergy", group="S3", nodes=4, tolerance=None, **own)
        state = env.reset(KEYS)
        point, slope = state.observation["point"], state.observation["ascent"]
        vector = normal(KEYS, "vector", tuple(point.shape[1:]), dtype=torch.float64)
        pairs = state.hidden.pairs

        def energy(x: torch.Tensor, env: Any = env, hidden: Any = state.hidden) -> torch.Tensor:
            return env._ask(hidden, x)[0]

        change = (energy(point + 1e-6 * vector) - energy(point - 1e-6 * vector)) / 2e-6
        assert torch.allclose((slope * vector).sum(-1), change, rtol=1e-5, atol=1e-8)
        assert pairs.shape[1] == int(env.fraction * 36)
        assert optenvs.check(env)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("GroupGrokking", {"group": "Z1"}, "group: expected at least two"),
    ("GroupGrokking", {"fraction": 0.0}, "fraction: expected a share in"),
    ("GroupGrokking", {"fraction": 1.5}, "fraction: expected a share in"),
    ("GroupGrokking", {"fraction": float("nan")}, "fraction: expected a share in"),
    ("GroupGrokking", {"fraction": True}, "fraction: expected a share in"),
    ("GroupGrokking", {"fraction": 1e-4, "group": "Z3"}, "fraction: .*leaves none"),
    ("GroupGrokking", {"ratio": -1.0}, "ratio: expected a number > 0"),
    ("GroupGrokking", {"ratio": 1.0, "fraction": 0.5}, "fraction: .*no effect beside ratio"),
    ("GroupGrokking", {"width": 0}, "width: expected a whole number"),
    ("GroupGrokking", {"operands": 1}, "operands: expected a whole number >= 2"),
    ("GroupGrokking", {"operands": 9}, "operands: expected at most"),
    ("GroupGrokking", {"loss": "mse"}, "loss: expected one of"),
    ("GroupGrokking", {"activation": "cos"}, "activation: expected one of"),
    ("GroupGrokking", {"oracle": "hvp"}, "oracle: expected one of"),
    ("GroupGrokking", {"layers": -1}, "layers: expected a whole number"),
    ("GroupGrokking", {"residual": False}, "residual: .*no effect"),
    ("GroupGrokking", {"complex_weights": True, "activation": "relu"}, "complex_weights: expected"),
    ("GroupGrokking", {"layers": 1, "activation": "product"}, "layers: expected an activation"),
    ("GroupGrokking", {"expression": "x+y", "group": "S3"}, "expression: needs a group Zm"),
    ("GroupGrokking", {"goal": 1.0}, "goal: expected"),
    ("GroupGrokking", {"multiplier": 0.0}, "multiplier: expected"),
    ("GroupGrokking", {"v_init": -1.0}, "v_init: expected"),
    ("GroupGrokking", {"data": {"train": [1, 1]}}, "data: train: expected different"),
    ("GroupGrokking", {"data": {"train": [529]}}, "data: train: expected different"),
    ("GroupGrokking", {"data": {"train": []}}, "data: train: expected different"),
    (
        "GroupGrokking",
        {
            "data": {
                "train": [1],
            },
            "fraction": 0.5,
        },
        "data: train: would leave",
    ),
    ("GroupGrokking", {"data": {"weights": [1.0]}}, "data: weights: expected 17664"),
    ("GroupGrokking", {"data": {"pairs": [1]}}, "data: expected a mapping"),
    ("RidgeTop", {"eta": 0.0}, "eta: expected a number > 0"),
    ("RidgeTop", {"activation": "product"}, "activation: expected one of"),
    ("FeatureEnergy", {"fitted": (0,)}, "fitted: expected different numbers in 1 .. 3"),
    ("FeatureEnergy", {"fitted": (1, 1)}, "fitted: expected"),
    ("FeatureEnergy", {"fitted": (1, 2, 3)}, "fitted: expected .*not all of them"),
    ("FeatureEnergy", {"fraction": 2.0}, "fraction: expected"),
    ("FeatureEnergy", {"nodes": 0}, "nodes: expected"),
    ("FeatureEnergy", {"data": {"start": [[0.0] * 14] * 16}}, "data: start: expected nodes other than 0"),
    ("FeatureEnergy", {"data": {"start": [1.0]}}, "data: start: expected finite numbers of shape"),
]


@pytest.mark.parametrize(("name", "keywords", "told"), REFUSED)
def test_what_is_refused_names_its_keyword(name: str, keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        optenvs.make(name, **keywords)
