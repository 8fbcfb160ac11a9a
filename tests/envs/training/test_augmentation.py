"""Crop and mirror: an exact reference in numpy, the law of the draws, and no dependence on the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs import data
from optenvs.core import keys_from_seed
from optenvs.core.env import State
from optenvs.envs.training.augmentation import PAD, crop_flip, draw_crop_flip
from optenvs.envs.training.base import Training
from optenvs.envs.training.order import minibatch


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainNoise(Training):
    """Images of random pixels, so that no two crops of them are alike; not square, to tell the axes apart."""

    model: str = "logistic"
    batch_size: int = 6
    standardise: str = "channel"

    def dataset(self) -> data.Dataset:
        return NOISE


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 8, 10), dtype=np.float32)


NOISE = data.Dataset(
    "noise", images(40, 0), np.arange(40) % 4, images(12, 1), np.arange(12) % 4, 4, (3, 8, 10)
)


def reference(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """One raw image ``(c, h, w)`` as the usual pipelines make it: pad with zeros, crop, mirror."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (PAD, PAD), (PAD, PAD)))
    crop = padded[:, PAD + down : PAD + down + height, PAD + right : PAD + right + width]
    return crop[:, :, ::-1] if mirrored else crop


def walk(env: Training, keys: Tensor, steps: int) -> list[State]:
    """The states of a walk that stays at the starting weights."""
    state = env.reset(keys)
    found = [state]
    for _ in range(steps):
        found.append(env.step(found[-1], state.observation["point"]))
    return found


def sampled(env: Training, state: State) -> Tensor:
    return minibatch(state.key, state.hidden.order, state.k, env.batch_size)


@pytest.mark.parametrize("standardise", ["none", "scalar", "channel"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_minibatches_equal_a_slow_reference(standardise: str, dtype: str) -> None:
    env = TrainNoise(oracle="minibatch", augment="crop_flip", standardise=standardise, dtype=dtype)
    axes = {"none": None, "scalar": (0, 1, 2, 3), "channel": (0, 2, 3)}[standardise]
    mean, std = np.zeros(()), np.ones(())
    if axes is not None:
        mean = NOISE.train_x.mean(axes, dtype=np.float64, keepdims=True)[0]
        std = NOISE.train_x.std(axes, dtype=np.float64, keepdims=True)[0]
    for state in walk(env, keys_from_seed(3, 5), 8):  # beyond the first epoch of 6 batches
        index = sampled(env, state)
        offset, flip = draw_crop_flip(state.key, state.k, env.batch_size)
        for i in range(5):
            for j in range(env.batch_size):
                down, right = offset[i, j].tolist()
                raw = reference(NOISE.train_x[index[i, j]], down, right, bool(flip[i, j]))
                expected = ((raw - mean) / std).astype(dtype)
                assert np.array_equal(state.observation["inputs"][i, j].numpy(), expected)
        assert np.array_equal(state.observation["targets"].numpy(), NOISE.train_y[index])


def test_gradient_oracle_sees_the_same_images() -> None:
    shown = TrainNoise(oracle="minibatch", augment="crop_flip")
    asked = TrainNoise(oracle="gradient", augment="crop_flip")
    keys = keys_from_seed(0, 4)
    for images_, answer in zip(walk(shown, keys, 7), walk(asked, keys, 7), strict=True):
        point = answer.observation["point"].clone().requires_grad_()
        loss = images_.problem.loss(point, images_.observation["inputs"], images_.observation["targets"])
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        torch.testing.assert_close(answer.observation["value"].squeeze(-1), loss.detach())
        torch.testing.assert_close(answer.observation["gradient"], gradient)


def test_a_key_has_its_own_crops_at_every_batch_size() -> None:
    env = TrainNoise(oracle="minibatch", augment="crop_flip")
    keys = keys_from_seed(1, 16)
    together = walk(env, keys, 7)
    for rows in (slice(5, 6), slice(3, 11)):
        for whole, part in zip(together, walk(env, keys[rows], 7), strict=True):
            assert torch.equal(whole.observation["inputs"][rows], part.observation["inputs"])
    first, again = env.step(together[3], together[3].observation["point"]), together[4]
    assert torch.equal(first.observation["inputs"], again.observation["inputs"])  # pure
    rows = [row.numpy().tobytes() for row in together[0].observation["inputs"]]
    assert len(set(rows)) == 16


def test_rows_draw_by_their_own_query_number() -> None:
    keys = keys_from_seed(2, 3)
    mixed = draw_crop_flip(keys, torch.tensor([0, 9, 4]), 5)
    for i, query in enumerate((0, 9, 4)):
        alone = draw_crop_flip(keys[i : i + 1], torch.tensor([query]), 5)
        assert torch.equal(mixed[0][i], alone[0][0]) and torch.equal(mixed[1][i], alone[1][0])


def test_draws_are_uniform_and_independent() -> None:
    keys = keys_from_seed(0, 500)
    draws = [draw_crop_flip(keys, torch.full((500,), query), 16) for query in range(20)]
    offset = torch.stack([o for o, _ in draws]).numpy()  # (20, 500, 16, 2)
    flip = torch.stack([f for _, f in draws]).numpy()
    places = (offset[..., 0] + PAD) * 9 + offset[..., 1] + PAD
    cells = np.bincount((places * 2 + flip).ravel(), minlength=162)  # 81 places, mirrored or not
    assert len(cells) == 162 and offset.min() == -PAD and offset.max() == PAD
    expected = flip.size / 162
    # chi squared with 161 degrees of freedom: 161 +- 18; six deviations
    assert abs(((cells - expected) ** 2 / expected).sum() - 161) < 6 * np.sqrt(2 * 161)
    for axis in range(3):  # queries, instances, places in the minibatch: neighbours share nothing
        near, far = np.moveaxis(places, axis, 0)[:-1], np.moveaxis(places, axis, 0)[1:]
        assert abs(np.corrcoef(near.ravel(), far.ravel())[0, 1]) < 6 / np.sqrt(near.size)
        assert abs(np.mean(near == far) - 1 / 81) < 6 * np.sqrt(1 / 81 / near.size)


def test_without_augmentation_images_are_as_they_are() -> None:
    plain, named = TrainNoise(oracle="minibatch"), TrainNoise(oracle="minibatch", augment="none")
    stored = data.tensors(NOISE, standardise="channel").train_x
    keys = keys_from_seed(4, 3)
    for state, other in zip(walk(plain, keys, 8), walk(named, keys, 8), strict=True):
        assert torch.equal(state.observation["inputs"], stored[sampled(plain, state)])
        assert torch.equal(state.observation["inputs"], other.observation["inputs"])


def test_metrics_are_of_images_that_are_not_augmented() -> None:
    keys = keys_from_seed(5, 3)
    plain, augmented = (walk(TrainNoise(augment=a), keys, 6)[-1] for a in ("none", "crop_flip"))
    point = plain.observation["point"]
    assert torch.equal(point, augmented.observation["point"])  # the same weights to start from
    assert not torch.equal(plain.merit, augmented.merit)
    scores = (
        TrainNoise(augment=a).evaluate(s).metrics for a, s in (("none", plain), ("crop_flip", augmented))
    )
    clean, other = scores
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert torch.equal(clean[name], other[name])


def test_nothing_given_is_changed() -> None:
    stored = torch.from_numpy(images(5, 2))
    before, index = stored.clone(), torch.tensor([[4, 4], [0, 3]])
    offset = torch.tensor([[[0, 0], [4, -4]], [[1, 2], [0, 0]]])
    made = crop_flip(stored, index, offset, torch.tensor([[False, False], [True, True]]), torch.tensor(-7.0))
    assert torch.equal(stored, before)
    assert torch.equal(made[0, 0], stored[4]) and torch.equal(made[1, 1], stored[3].flip(-1))
    # four rows down and four columns to the left: the last rows and the first columns are black
    assert (made[0, 1, :, 4:] == -7).all() and (made[0, 1, :, :, :4] == -7).all()
    assert torch.equal(made[0, 1, :, :4, 4:], stored[4][:, 4:, :-4])


def test_the_checker_accepts_it() -> None:
    report = optenvs.check(TrainNoise(augment="crop_flip", epochs=2))
    assert report.ok, report


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TrainNoise(augment="mirror"), "augment: expected one of none, crop_flip, got 'mirror'"),
        (lambda: TrainNoise(augment="crop_flip", standardise="feature"), "standardise='feature'"),
        (
            lambda: optenvs.make("optenvs/TrainBreastCancer-v0", augment="crop_flip"),
            r"augment: crop_flip needs images .*\(30,\)",
        ),
    ],
)
def test_mistakes_are_named(make: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_augmentation_helps_where_images_move() -> None:
    """Digits that move at the test: a network that has seen them moved knows more of them."""
    moved = torch.tensor([[2, 0], [-2, 0], [0, 2], [0, -2]])
    digits = data.load("digits")
    tensors = data.tensors(digits, standardise="scalar")
    right = {}
    for augment in ("none", "crop_flip"):
        env = optenvs.make("optenvs/TrainDigits-v0", widths=(64,), epochs=8, augment=augment)
        run = optenvs.rollout(env, agents.Adam(lr=3e-3), seed=0, batch=2)
        point, hits = run.state.observation["point"], []
        for offset in moved:
            index = torch.arange(len(digits.test_y)).unsqueeze(0)
            still = torch.zeros_like(index, dtype=torch.bool)
            shown = crop_flip(tensors.test_x, index, offset.expand(1, len(index[0]), 2), still, tensors.zero)
            guess = env.network.apply(point, shown).argmax(-1)
            hits.append((guess == tensors.test_y).float().mean())
        right[augment] = float(torch.stack(hits).mean())
    assert right["crop_flip"] > right["none"] + 0.1, right
