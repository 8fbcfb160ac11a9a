"""How is the classifier of ``optenvs/Barycenter-v0`` made?

A small convolutional network learns the 4,000 packaged training images of MNIST, with the classes smoothed
by a tenth, so that its probabilities do not saturate. Adam in float32, from a fixed seed and on one thread.

    python examples/train_barycenter.py                 # writes the weights and prints their SHA-256

The project ships the file and its checksum: another machine may round differently, and then makes a network
that is as good and another file.
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

from optenvs.core.random import integers, keys_from_seed, normal
from optenvs.data import load, tensors
from optenvs.envs.surrogate.barycenter import SHAPES, classify

BATCH = 64
SMOOTHING = 0.1


def train(steps: int) -> tuple[dict[str, torch.Tensor], float]:
    """The trained tensors, and the share of the test images that they tell right."""
    keys = keys_from_seed(2510_01461, 1)
    digits = tensors(load("mnist"))
    weights = {}
    for name, shape in SHAPES:
        scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.0
        weights[name] = (scale * normal(keys, name, shape)[0]).requires_grad_()
    adam = torch.optim.Adam(weights.values(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in trange(steps, desc="Adam"):
        rows = integers(keys, "batch", BATCH, len(digits.train_y), step)[0]
        adam.zero_grad()
        logits = classify(weights, digits.train_x[rows])
        F.cross_entropy(logits, digits.train_y[rows], label_smoothing=SMOOTHING).backward()
        adam.step()
        schedule.step()
    with torch.no_grad():
        right = classify(weights, digits.test_x).argmax(-1) == digits.test_y
    return {name: weight.detach().contiguous() for name, weight in weights.items()}, float(
        right.float().mean()
    )


def main() -> None:
    """Train, write, and say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("barycenter.safetensors"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weights, right = train(arguments.steps)
    content = save(weights)
    arguments.out.write_bytes(content)
    print(f"right on the 1,000 test images: {right:.1%}")
    print(f"{arguments.out}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
