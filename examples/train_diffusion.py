"""How are the networks of ``optenvs/RankingLatent-v0`` made?

Two small networks learn the 1,437 packaged training images of handwritten digits (8x8 pixels): a diffusion
model the velocity v at random angles, by the mean squared error; a judge the ten classes, and an eleventh of
spoiled images, with the classes smoothed by a twentieth, so that its probabilities do not saturate. Adam in
float32, from a fixed seed and on one thread. The diffusion model is a running mean of its weights; both are
kept in float16.

    python examples/train_diffusion.py                  # writes the weights and prints their SHA-256

Measured, in 4 minutes on a loaded core: the judge is right on 98.9 % of the 360 test images and tells 91.4 %
of spoiled ones. To 1,000 images of Gaussian latents (15 steps) it gives a mean probability of 0.68 for the
likeliest digit, and of 0.20 for no digit.

The project ships the file and its checksum: another machine may round differently, and then makes networks
that are as good and another file.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from tqdm import trange

from optenvs.core.random import Keys, integers, keys_from_seed, normal, uniform
from optenvs.data import Tensors, load, tensors
from optenvs.envs.ranking.diffusion import CLASSES, SHAPES, SIDE, generate, judge, velocity

BATCH = 128
SMOOTHING = 0.05
MEMORY = 0.998  # of the running mean of the weights
Weights = dict[str, torch.Tensor]


def initial(keys: Keys, judges: bool) -> Weights:
    """Normal weights scaled by the number of inputs, zero biases; the last layer of a block is zero."""
    weights = {}
    for name, shape in SHAPES:
        if name.startswith("judge") == judges:
            plain = len(shape) == 1 or "last" in name
            scale = 0.0 if plain else 1 / math.sqrt(shape[-1])
            weights[name] = (scale * normal(keys, name, shape)[0]).requires_grad_()
    return weights


def train_model(keys: Keys, images: torch.Tensor, steps: int) -> Weights:
    """The diffusion model, of images ``(n, 64)`` with pixels in 0 .. 1."""
    weights = initial(keys, judges=False)
    mean = {name: weight.detach().clone() for name, weight in weights.items()}
    adam = torch.optim.Adam(weights.values(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in trange(steps, desc="diffusion model"):
        x = 2 * images[integers(keys, "batch", BATCH, len(images), step)[0]] - 1
        noise = normal(keys, "noise", x.shape, step)[0]
        angle = math.pi / 2 * uniform(keys, "angle", (BATCH, 1), step)[0]
        z, v = angle.cos() * x + angle.sin() * noise, angle.cos() * noise - angle.sin() * x
        adam.zero_grad()
        (velocity(weights, z, angle) - v).square().mean().backward()
        adam.step()
        schedule.step()
        with torch.no_grad():
            for name, weight in weights.items():
                mean[name].lerp_(weight, 1 - min(MEMORY, step / (step + 10)))
    return mean


def spoil(keys: Keys, images: torch.Tensor, step: int) -> torch.Tensor:
    """Of images ``(3 n, 64)``: mixtures of two, noisy ones, and some with their halves exchanged."""
    part = len(images) // 3
    mixed, noisy, torn = images[:part], images[part : 2 * part], images[2 * part :]
    share = 0.3 + 0.4 * uniform(keys, "share", (part, 1), step)[0]
    mixed = share * mixed + (1 - share) * noisy
    noisy = (noisy + 0.3 * normal(keys, "spoil", noisy.shape, step)[0]).clamp(0, 1)
    square = torn.unflatten(-1, (SIDE, SIDE))
    half = len(square) // 2
    torn = torch.cat((square[:half].roll(SIDE // 2, 1), square[half:].roll(SIDE // 2, 2)))
    return torch.cat((mixed, noisy, torn.flatten(1)))


def train_judge(keys: Keys, digits: Tensors, steps: int) -> Weights:
    """The judge."""
    weights, images = initial(keys, judges=True), digits.train_x.flatten(1)
    adam = torch.optim.Adam(weights.values(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in trange(steps, desc="judge"):
        rows = integers(keys, "rows", BATCH, len(images), step)[0]
        spoilt = spoil(keys, images[integers(keys, "spoilt", 48, len(images), step)[0]], step)
        labels = torch.cat((digits.train_y[rows], torch.full((len(spoilt),), CLASSES)))
        adam.zero_grad()
        logits = judge(weights, torch.cat((images[rows], spoilt)))
        F.cross_entropy(logits, labels, label_smoothing=SMOOTHING).backward()
        adam.step()
        schedule.step()
    return {name: weight.detach() for name, weight in weights.items()}


def main() -> None:
    """Train, write, and say how good they are."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="of the diffusion model")
    parser.add_argument("--judge", type=int, default=2000, help="steps of the judge")
    parser.add_argument("--out", type=Path, default=Path("diffusion.safetensors"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keys = keys_from_seed(2303_03751, 1)
    digits = tensors(load("digits"))
    weights = train_judge(keys, digits, arguments.judge)
    weights |= train_model(keys, digits.train_x.flatten(1), arguments.steps)
    halves = {name: weight.half().contiguous() for name, weight in weights.items()}
    content = save(halves)
    arguments.out.write_bytes(content)
    kept = {name: weight.float() for name, weight in halves.items()}
    test = digits.test_x.flatten(1)
    right = judge(kept, test).argmax(-1) == digits.test_y
    spoilt = judge(kept, spoil(keys, test, arguments.judge)).argmax(-1) == CLASSES
    sample = judge(kept, generate(kept, normal(keys, "sample", (1000, 64))[0], 15)).exp()
    print(
        f"judge: right on {right.float().mean():.1%} of 360 test images, {spoilt.float().mean():.1%} spoilt"
    )
    print(f"1,000 images of 15 steps: mean probability of a digit {sample[:, :CLASSES].sum(-1).mean():.3f},")
    print(f"of the likeliest one {sample[:, :CLASSES].amax(-1).mean():.3f}")
    print(f"{arguments.out}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
