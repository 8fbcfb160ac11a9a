"""How are the two networks of ``optenvs/Counterfactual-v0`` made?

Random maps of terrain are painted. A variational autoencoder (Kingma and Welling 2014) learns the pictures,
and its decoder is kept; then the cost network learns what each cell of a picture costs, on painted pictures
and on the decoder's own of the same maps. Adam in float32, from a fixed seed and on one thread.

    python examples/train_counterfactual.py             # writes the weights and prints their SHA-256

The project ships the file and its checksum: another machine may round differently, and then makes networks
that are as good and another file.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from tqdm import trange

from optenvs.core.random import fold_in, keys_from_seed, normal
from optenvs.envs.surrogate.terrain import (
    COSTS,
    LATENT,
    PIXELS,
    SHAPES,
    SIDE,
    decode,
    draw_maps,
    paint,
    price,
)

BATCH = 64
DIVERGENCE = 0.1
"""The weight of the divergence from the prior, against the squared error of a whole picture."""
KEYS = keys_from_seed(2510_01461, BATCH)
PICTURE = 3 * (SIDE * PIXELS) ** 2
ENCODER = (
    ("encoder.0.weight", (128, PICTURE)),
    ("encoder.0.bias", (128,)),
    ("encoder.1.weight", (2 * LATENT, 128)),
    ("encoder.1.bias", (2 * LATENT,)),
)


def initial() -> dict[str, Tensor]:
    """He's normal weights, zero biases, of all three networks."""
    tensors = {}
    for name, shape in (*SHAPES, *ENCODER):
        # a transposed convolution of stride 2 adds its inputs over a quarter of its kernel
        fan = shape[0] * 4 if name in ("decoder.2.weight", "decoder.3.weight") else math.prod(shape[1:])
        scale = math.sqrt(2 / fan) if len(shape) > 1 else 0.0
        tensors[name] = (scale * normal(KEYS[:1], name, shape)[0]).requires_grad_()
    return tensors


def encode(tensors: dict[str, Tensor], picture: Tensor) -> tuple[Tensor, Tensor]:
    """Means and logarithms of the variances of the latents, ``(B, n)`` each."""
    hidden = F.linear(picture.flatten(1), tensors["encoder.0.weight"], tensors["encoder.0.bias"]).relu()
    hidden = F.linear(hidden, tensors["encoder.1.weight"], tensors["encoder.1.bias"])
    return hidden[:, :LATENT], hidden[:, LATENT:]


def maps(step: int) -> tuple[Tensor, Tensor]:
    """New maps for each step: pictures ``(B, 3, h, w)`` and costs ``(B, c)``."""
    kinds = draw_maps(fold_in(KEYS, step))
    return paint(kinds), torch.tensor(COSTS)[kinds].flatten(1)


def descend(parameters: list[Tensor], steps: int, what: str, loss: Callable[[int], Tensor]) -> None:
    """``steps`` steps of Adam on ``loss(step)``."""
    adam = torch.optim.Adam(parameters, lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in trange(steps, desc=what, mininterval=5):
        adam.zero_grad()
        loss(step).backward()
        adam.step()
        schedule.step()


def train(steps: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The trained tensors without the encoder, and how good they are on new maps."""
    tensors = initial()

    def reconstruction(step: int) -> Tensor:
        picture, _ = maps(step)
        mean, log_variance = encode(tensors, picture)
        noise = normal(KEYS, "noise", LATENT, step)
        error = decode(tensors, mean + (log_variance / 2).exp() * noise) - picture
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2
        return error.square().sum((1, 2, 3)).mean() + DIVERGENCE * divergence.mean()

    def pricing(step: int) -> Tensor:
        picture, costs = maps(step)
        with torch.no_grad():
            copy = decode(tensors, encode(tensors, picture)[0])
        found = price(tensors, torch.cat((picture, copy)))
        return F.smooth_l1_loss(found, torch.cat((costs, costs)))

    descend([t for n, t in tensors.items() if not n.startswith("cost")], steps, "autoencoder", reconstruction)
    descend([t for n, t in tensors.items() if n.startswith("cost")], steps // 2, "costs", pricing)
    with torch.no_grad():
        picture, costs = maps(-1)
        mean, log_variance = encode(tensors, picture)
        copy = decode(tensors, mean)
        report = {
            "root mean squared error of a pixel": float((copy - picture).square().mean().sqrt()),
            "divergence": float((mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean() / 2),
            "mean norm of the latents": float(mean.norm(dim=-1).mean()),
            "mean error of a cost, painted": float((price(tensors, picture) - costs).abs().mean()),
            "mean error of a cost, decoded": float((price(tensors, copy) - costs).abs().mean()),
        }
    return {name: tensors[name].detach().contiguous() for name, _ in SHAPES}, report


def main() -> None:
    """Train, write, and say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000, help="of the autoencoder; half as many for costs")
    parser.add_argument("--out", type=Path, default=Path("counterfactual.safetensors"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tensors, report = train(arguments.steps)
    content = save(tensors)
    arguments.out.write_bytes(content)
    for what, value in report.items():
        print(f"{what}: {value:.3g}")
    print(f"{arguments.out}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
