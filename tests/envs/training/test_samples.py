"""Samples as each instance has them, and training on all of them at once."""

from __future__ import annotations

import pytest
import torch

import agents
import optenvs
from optenvs.core import keys_from_seed
from optenvs.envs.training.samples import Samples
from optenvs.models import MLP, Objective, RandomFeatures

KEYS = keys_from_seed(0, 4)
G = torch.Generator().manual_seed(0)
POOL = torch.arange(40.0).view(20, 2)
CLASSES = torch.arange(20) % 5


def test_an_instances_own_split() -> None:
    samples = Samples(inputs=POOL, targets=CLASSES, classes=5, split=12)
    split = samples.draw_split(KEYS)
    assert split is not None and len(samples) == 12
    both = torch.cat((split.train, split.test), 1)
    assert torch.equal(both.sort(1).values, torch.arange(20).expand(4, -1))
    assert not torch.equal(split.train[0], split.train[1])
    again = samples.draw_split(KEYS[2:3])
    assert again is not None and torch.equal(again.train, split.train[2:3])
    for which, index in (("train", split.train), ("test", split.test)):
        part = samples.part(KEYS, which, split)
        assert torch.equal(part.inputs, POOL[index]) and torch.equal(part.targets, CLASSES[index])
        pieces = [(some, list(parts)) for some, parts in samples.in_groups(KEYS, which, 2 * 24, 5, split)]
        found = torch.cat([torch.cat([p.inputs for p in parts], 1) for _, parts in pieces])
        assert len(pieces) > 1 and torch.equal(found, part.inputs)


def test_noise_is_an_instances_own_and_stays() -> None:
    many = torch.zeros(5000, 1)
    labels = Samples(inputs=many, targets=torch.zeros(5000, dtype=torch.int64), classes=10, noise=0.4)
    whole = labels.part(KEYS, "train").targets
    assert labels.part(KEYS, "train").inputs.shape[0] == 1  # shared, though the labels are not
    assert ((whole != 0).double().mean(1) - 0.36).abs().max() < 0.03
    assert not torch.equal(whole[0], whole[1])
    index = torch.tensor([[7, 3, 11]]).expand(4, -1)
    assert torch.equal(labels.at(KEYS, index).targets, whole[:, [7, 3, 11]])
    numbers = Samples(inputs=many, targets=torch.ones(5000, 2), noise=0.5)
    drawn = numbers.part(KEYS, "train").targets
    assert drawn.shape == (4, 5000, 2)
    flat = drawn.flatten(1)
    assert (flat.mean(1) - 1).abs().max() < 0.02 and (flat.std(1) - 0.5).abs().max() < 0.02
    assert torch.corrcoef(drawn[0].T)[0, 1].abs() < 0.06  # 4 standard errors
    assert torch.corrcoef(flat[:2])[0, 1].abs() < 0.04
    torch.testing.assert_close(numbers.at(KEYS, index).targets, drawn[:, [7, 3, 11]])


def test_without_noise_nothing_is_copied() -> None:
    samples = Samples(inputs=POOL, targets=CLASSES, test_inputs=POOL + 1, test_targets=CLASSES, classes=5)
    for which, inputs in (("train", POOL), ("test", samples.test_inputs)):
        part = samples.part(KEYS, which)
        assert part.inputs.data_ptr() == inputs.data_ptr() and part.inputs.shape == (1, 20, 2)


def test_double_descent_needs_nothing_more() -> None:
    """Reads as an example: random features on noisy numbers, an own split, exact by least squares."""
    x = torch.randn(60, 3, generator=G, dtype=torch.float64)
    samples = Samples(inputs=x, targets=x.sum(-1), noise=0.1, split=40)
    objective = Objective(RandomFeatures((3,), 1, (10,)), "squared")
    point, fixed = (draw(KEYS, x.dtype) for draw in (objective.model.draw, objective.model.draw_fixed))
    split = samples.draw_split(KEYS)
    train, test = (samples.part(KEYS, which, split) for which in ("train", "test"))
    with torch.no_grad():
        eye = torch.eye(objective.model.size, dtype=x.dtype).expand(4, -1, -1)
        _, gradient, hessian = objective.hvp(point, train, eye, fixed)
        best = point - torch.linalg.lstsq(hessian, gradient.unsqueeze(-1)).solution.squeeze(-1)
        _, left = objective.value_and_gradient(best, train, fixed)
        assert left.abs().max() < 1e-10
        assert (objective.value(best, test, fixed) > objective.value(best, train, fixed)).all()


def test_full_batch_is_a_minibatch_of_all_samples() -> None:
    keywords = {"samples": 100, "dtype": "float64", "label_noise": 0.2, "epochs": 12}
    full = optenvs.make("TrainDigits", batch_size=None, **keywords)
    part = optenvs.make("TrainDigits", batch_size=100, **keywords)
    runs = [optenvs.rollout(env, agents.Adam(lr=0.01), seed=0, batch=3) for env in (full, part)]
    torch.testing.assert_close(runs[0].merit, runs[1].merit)
    assert torch.equal(runs[0].calls["samples"], runs[1].calls["samples"])
    assert int(runs[0].calls["samples"][-1, 0]) == 100 * 13 and full.limits == part.limits
    seen = runs[0].metrics["train_loss"]
    torch.testing.assert_close(seen[10], runs[1].metrics["train_loss"][10])
    torch.testing.assert_close(seen[10], runs[0].merit[10])  # the full batch's loss is the training loss


@pytest.mark.parametrize(
    ("keyword", "evaluated"), [(None, [0, 10]), (4, [0, 4, 8, 12]), ((3, 11), [0, 3, 11])]
)
def test_a_full_batch_is_not_evaluated_at_each_step(keyword, evaluated, monkeypatch) -> None:
    env = optenvs.make("TrainDigits", batch_size=None, samples=100, epochs=12, evaluation_period=keyword)
    at: list[int] = []
    kind = type(env)
    evaluate = kind.evaluate
    monkeypatch.setattr(kind, "evaluate", lambda self, s: (at.append(int(s.k[0])), evaluate(self, s))[1])
    optenvs.rollout(env, agents.Adam(lr=0.01), seed=0, batch=2)
    assert at == evaluated


def test_full_batch_hands_out_all_samples() -> None:
    env = optenvs.make("TrainDigits", batch_size=None, samples=50, oracle="minibatch", augment="crop_flip")
    state = env.reset(KEYS)
    assert state.observation["inputs"].shape == (4, 50, 1, 8, 8)
    assert not torch.equal(state.observation["inputs"][0], state.observation["inputs"][1])
    plain = optenvs.make("TrainDigits", batch_size=None, samples=50, oracle="minibatch").reset(KEYS)
    loss = plain.problem.loss(
        plain.observation["point"], plain.observation["inputs"], plain.observation["targets"]
    )
    torch.testing.assert_close(loss, plain.merit)


@pytest.mark.parametrize("loss", ["squared", "hinge"])
def test_other_losses_and_frozen_features(loss: str) -> None:
    model = RandomFeatures((1, 8, 8), 10, (64,))
    env = optenvs.make("TrainDigits", model=model, loss=loss, samples=300, batch_size=None, epochs=60)
    assert env.network.size == 650
    run = optenvs.rollout(env, agents.Adam(lr=0.02), seed=0, batch=3)
    assert (run.merit[-1] < 0.5 * run.merit[0]).all()
    assert (run.metrics["test_accuracy"][-1] > run.metrics["test_accuracy"][0] + 0.3).all()


def test_swarms_meet_the_full_batch() -> None:
    env = optenvs.make("ParticlesDigits", particles=3, samples=60, batch_size=None, epochs=4)
    run = optenvs.rollout(env, agents.make("cbo"), seed=0, batch=2, steps=5)
    assert int(run.calls["samples"].max()) % 60 == 0 and run.merit.isfinite().all()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"loss": "logistic"}, "loss: logistic needs a model of one output, got 10"),
        ({"loss": "mse"}, "loss: expected one of cross_entropy, squared"),
        ({"batch_size": 0}, "batch_size: expected a whole number >= 1"),
    ],
)
def test_mistakes_are_named(keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make("TrainDigits", **keywords)
    with pytest.raises(ValueError, match=r"split: expected a number in 1 .. 19, got 20"):
        Samples(inputs=POOL, targets=CLASSES, classes=5, split=20)
    with pytest.raises(ValueError, match="which: expected train or test, got 'all'"):
        Samples(inputs=POOL, targets=CLASSES, classes=5).part(KEYS, "all")
    assert MLP((4,), 1).size == 4 * 32 + 32 + 33
