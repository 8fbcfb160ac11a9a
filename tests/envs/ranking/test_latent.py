"""Latents: the sampler is deterministic, its images are digits, the taste is hidden and can be learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed, normal
from optenvs.core.struct import replace, tensors
from optenvs.data import CorruptData, weights
from optenvs.data.weights import load_weights
from optenvs.envs.ranking import diffusion
from optenvs.envs.ranking.latent import RankingLatent


def make(**keywords: Any) -> RankingLatent:
    env = optenvs.make("RankingLatent", **keywords)
    assert isinstance(env, RankingLatent)
    return env


def latents(count: int, seed: int = 0) -> Tensor:
    return normal(keys_from_seed(seed, 1), "latents", (count, 64))


def test_the_same_latent_is_the_same_image() -> None:
    env, z = make(), latents(6)
    images = env.images(z)
    assert images.shape == (1, 6, 8, 8)
    assert torch.equal(env.images(z), images)
    alone = torch.cat([env.images(z[:, i : i + 1]) for i in range(6)], 1)
    assert torch.allclose(alone, images, atol=1e-5), "an image depends on the others of its query"
    nearby = env.images(z + 1e-3)
    assert (nearby - images).abs().max() < 0.1, "the image is no smooth function of its latent"
    assert images.min() == 0
    assert (images.flatten(2).std(1) > 0.05).any(), "all images are alike"


def test_a_latent_counts_by_its_direction() -> None:
    env, z = make(), latents(4)
    assert torch.allclose(env.images(5 * z), env.images(z), atol=1e-5)
    assert env.images(torch.zeros_like(z)).isfinite().all()
    typical = z * (8 / z.norm(dim=-1, keepdim=True))
    expected = diffusion.generate(env.networks, typical, env.steps)
    assert torch.allclose(env.images(z).flatten(2), expected, atol=1e-5)


def test_a_perfect_velocity_is_integrated_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    # of a single image x the velocity is known, and the sampler then ends in x from any latent
    x, z = torch.linspace(-0.9, 0.9, 64, dtype=torch.float64), latents(3).double()

    def known(_: Any, z: Tensor, angle: float) -> Tensor:
        cos, sin = np.cos(angle), np.sin(angle)
        return cos * (z - cos * x) / sin - sin * x

    monkeypatch.setattr(diffusion, "velocity", known)
    for steps in (1, 4, 15):
        found = diffusion.generate({}, z, steps)
        assert torch.allclose(found, ((x + 1) / 2).expand_as(found), atol=1e-9)


def test_images_look_like_data() -> None:
    env = make()
    images = env.images(latents(1000)).flatten(2)
    confidence = diffusion.judge(env.networks, images)[..., :10].exp()
    # measured 0.71; of the test images of the data 0.87
    assert confidence.amax(-1).mean() > 0.65, "the judge is not sure what they show"
    assert (confidence.argmax(-1).flatten().bincount(minlength=10) > 40).all(), "a digit is never drawn"
    pixels = torch.from_numpy(load_digits(return_X_y=True)[0] / 16).float()
    assert (images.mean((0, 1)) - pixels.mean(0)).abs().max() < 0.1
    distance = torch.cdist(images[0, :200], pixels)
    assert distance.amin(-1).mean() < distance.mean() / 2, "they are no nearer to some digit than to any"


def test_the_judge_knows_digits_and_what_is_none() -> None:
    networks = make().networks
    data = optenvs.data.load("digits")
    test = torch.tensor(data.test_x).flatten(1)
    right = diffusion.judge(networks, test).argmax(-1) == torch.tensor(data.test_y)
    assert right.float().mean() > 0.93
    noise = (0.5 + 0.3 * latents(200)[0]).clamp(0, 1)
    assert (diffusion.judge(networks, noise).argmax(-1) == diffusion.CLASSES).float().mean() > 0.9


def test_the_value_is_the_judges_log_probability() -> None:
    env = make(shown=4, dtype="float64")
    state = env.reset(keys_from_seed(0, 12))
    digits = state.hidden.oracle
    assert len(digits.unique()) > 3, "all instances want the same digit"
    points = latents(4, 1).double().expand(12, -1, -1)
    probabilities = diffusion.judge(env.networks, env.images(points).flatten(2)).exp()
    assert torch.allclose(probabilities.sum(-1), torch.ones(12, 4, dtype=torch.float64))
    for b, digit in enumerate(digits.tolist()):
        assert torch.allclose(env.values(state, points)[b], -probabilities[b, :, digit].log())
    assert torch.allclose(state.metrics["probability"], (-state.merit).exp())
    assert torch.equal(state.metrics["gap"], state.merit)
    assert (make(digit=7).reset(keys_from_seed(0, 5)).hidden.oracle == 7).all()


def test_no_value_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make(shown=5, reward="none", budget=None, dtype="float64")
    agent = agents.ZORankSGD(mu=0.3)
    record = ("point", "order")
    plain = optenvs.rollout(env, agent, batch=4, steps=6, record=record)
    values = RankingLatent.values
    monkeypatch.setattr(RankingLatent, "values", lambda *args: 3 * values(*args).exp() - 7)
    told = optenvs.rollout(env, agent, batch=4, steps=6, record=record)
    for name in record:
        assert torch.equal(plain.recorded[name], told.recorded[name]), f"{name} depends on the values"
    assert not torch.equal(plain.metrics["value"], told.metrics["value"])
    state = env.reset(keys_from_seed(0, 4))
    assert (state.reward == 0).all()
    assert set(state.observation) == {"point", "order", "k", "N", "spent"}
    for name, known in tensors(state.problem).items():
        assert (known == known.flatten()[0]).all(), f"{name} tells instances apart"


def test_rankings_lead_to_the_hidden_digit() -> None:
    env = make(budget=None)
    run = optenvs.rollout(env, agents.ZORankSGD(mu=0.5, lr=3.0), batch=32, steps=20)
    before, after = run.metrics["probability"][0], run.metrics["probability"][-1]
    assert before.mean() < 0.25
    assert after.mean() > 0.8  # measured 0.88
    assert (run.metrics["value"][-1] <= run.metrics["value"][0]).all(), "a search went up"


def test_its_picture_shows_the_best_first() -> None:
    env, states = make(shown=4, ranked=2, budget=None), []
    optenvs.rollout(env, agents.ZORankSGD(), batch=1, steps=3, on_step=lambda _, state: states.append(state))
    picture = env.picture(states)
    few = env.picture(states[:1])
    assert picture.shape[0] > few.shape[0]
    assert len(np.unique(picture)) > 50
    last = states[-1]
    swapped = last.observation | {"order": last.observation["order"].flip(-1)}
    other = env.picture([*states[:-1], replace(last, observation=swapped)])
    assert not np.array_equal(picture, other), "the order is not drawn"


def test_the_shipped_file_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_weights("diffusion", shapes=dict(diffusion.SHAPES))
    assert sum(tensor.numel() for tensor in found.values()) > 300_000
    entry = weights.WEIGHTS["diffusion"]._replace(sha256="0" * 64)
    monkeypatch.setitem(weights.WEIGHTS, "diffusion", entry)
    with pytest.raises(CorruptData, match=r"expected SHA-256 000.*install again"):
        load_weights("diffusion")


def test_networks_of_ones_own(tmp_path: Any) -> None:
    own = {name: torch.zeros(shape) for name, shape in diffusion.SHAPES}
    save_file(own, tmp_path / "own.safetensors")
    env = make(weights=str(tmp_path / "own.safetensors"))
    assert torch.allclose(env.reset(keys_from_seed(0, 2)).merit, torch.tensor(11.0).log())
    save_file(own | {"out.bias": torch.zeros(3)}, tmp_path / "small.safetensors")
    with pytest.raises(CorruptData, match=r"expected out\.bias of shape \(64,\)"):
        make(weights=str(tmp_path / "small.safetensors"))


@pytest.mark.parametrize(
    ("message", "keywords"),
    [
        ("steps: expected a whole number >= 1, got 0", {"steps": 0}),
        ("steps: expected a whole number >= 1, got 1.5", {"steps": 1.5}),
        ("digit: expected a whole number in 0 .. 9 or None, got 10", {"digit": 10}),
        ("digit: expected a whole number in 0 .. 9 or None, got True", {"digit": True}),
        ("ranked: expected at most the 3 points shown", {"shown": 3, "ranked": 4}),
    ],
)
def test_it_says_what_is_wrong(message: str, keywords: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        make(**keywords)
