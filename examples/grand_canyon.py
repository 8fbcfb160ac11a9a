"""Which methods pass the barriers of the canyon? Consensus-based optimization beside gradient methods.

The question of figures 1 and 2 of Riedl, Klock, Geldhauser, Fornasier, "Gradient is All You Need?" (2023):
from (8, 8) a curved valley full of barriers leads to the minimum at the origin. A run succeeds if it ends
within 0.5 (in brackets: 0.25) of it; "E" is the median value at the end.

    python examples/grand_canyon.py --runs 200 --out canyon.png --film canyon.gif

Measured on two cores (busy), torch 2.13 CPU, float32, 200 runs a row, and beside it what an independent
implementation of the paper's settings gave:

    method                         values  gradients  success          E  reference          E
    CBO, noise after the drift     50,283          0  1.00 (0.99)  0.005  1.00 (0.99)    0.006
    CBO, noise before it           50,282          0  1.00 (0.99)  0.006  1.00 (0.99)    0.006
    CBO, 50 particles              12,496          0  0.66 (0.48)  0.513  0.66 (0.49)    0.44
    CBO, sigma 0.5                 50,396          0  0.00 (0.00) 31.402  0.00 (0.00)    31
    CBO, 1000 steps               200,283          0  1.00 (1.00)  0.002  1.00 (1.00)    0.002
    hopping, width 0.7             50,400          0  0.96 (0.75)  0.211  0.97 (0.77)    0.21
    hopping, width 0.6             50,400          0  0.78 (0.71)  0.197  0.79 (0.66)    0.21
    hopping, width 0.4             50,400          0  0.00 (0.00)  3.868  0.00 (0.00)    3.87
    hopping, 40 particles          10,080          0  0.69 (0.41)  1.017  0.64 (0.36)    1.24
    Langevin                       10,001     10,001  0.35 (0.25)  3.989  0.41 (0.26)    3.87
    gradient descent               10,001     10,001  0.00 (0.00)  3.862  0.00 (0.00)    3.86

Particle methods use values only. The reference took gradients by differences of four values; here they are
exact. A swarm's consensus after the last update is recommended with one more query, which is in the numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agents
import optenvs
from optenvs.core.env import State
from optenvs.core.picture import new_figure
from optenvs.envs.landscapes.picture import fill
from optenvs.envs.particles.particles import Particles

PARTICLES, UPDATES, DRAWN = 200, 250, 50
WINDOW = (-3.0, 9.0)
# method: (agent, standard deviation of the start or None for one chain, particles, updates, reference)
METHODS: dict[str, tuple[Any, float | None, int, int, str]] = {
    "CBO, noise after the drift": (agents.CBO(noise_after_drift=True), 0.5, 200, 250, "1.00 (0.99)    0.006"),
    "CBO, noise before it": (agents.CBO(), 0.5, 200, 250, "1.00 (0.99)    0.006"),
    "CBO, 50 particles": (agents.CBO(), 0.5, 50, 250, "0.66 (0.49)    0.44"),
    "CBO, sigma 0.5": (agents.CBO(noise_after_drift=True, sigma=0.5), 0.5, 200, 250, "0.00 (0.00)    31"),
    "CBO, 1000 steps": (agents.CBO(noise_after_drift=True), 0.5, 200, 1000, "1.00 (1.00)    0.002"),
    "hopping, width 0.7": (agents.ConsensusHopping(), 0.7, 200, 250, "0.97 (0.77)    0.21"),
    "hopping, width 0.6": (agents.ConsensusHopping(width=0.6), 0.6, 200, 250, "0.79 (0.66)    0.21"),
    "hopping, width 0.4": (agents.ConsensusHopping(width=0.4), 0.4, 200, 250, "0.00 (0.00)    3.87"),
    "hopping, 40 particles": (agents.ConsensusHopping(), 0.7, 40, 250, "0.64 (0.36)    1.24"),
    "Langevin": (agents.Langevin(), None, 1, 10_000, "0.41 (0.26)    3.87"),
    "gradient descent": (agents.GradientDescent(lr=1e-3), None, 1, 10_000, "0.00 (0.00)    3.86"),
}
PANELS = ("CBO, noise after the drift", "hopping, width 0.7", "gradient descent", "Langevin")


def swarm(spread: float, particles: int) -> Particles:
    """N particles that begin about (8, 8)."""
    env = optenvs.make(
        "optenvs/Particles-v0", landscape="optenvs/GrandCanyon-v0", particles=particles,
        start_mean=(8.0, 8.0), start_std=spread, tolerance=None, budget=None,
    )  # fmt: skip
    assert isinstance(env, Particles)
    return env


def run(name: str, runs: int) -> tuple[str, np.ndarray]:
    """A row of the table, and the paths ``(times, runs, 2)`` of what was recommended."""
    agent, spread, particles, updates, reference = METHODS[name]
    path: list[torch.Tensor] = []
    if spread is None:
        env, every = optenvs.make("optenvs/GrandCanyon-v0", tolerance=None, budget=None), 20

        def keep(step: int, state: State) -> None:
            if step % every == 0:
                path.append(state.observation["point"][:DRAWN].clone())
    else:
        env, updates = swarm(spread, particles), updates + 1

        def keep(step: int, state: State) -> None:
            path.append(state.hidden.recommendation[:DRAWN].clone())

    outcome = optenvs.rollout(env, agent, batch=runs, steps=updates, on_step=keep)
    distance, value = outcome.metrics["distance"][-1], outcome.metrics["value"][-1]
    near = [float((distance <= radius).double().mean()) for radius in (0.5, 0.25)]
    calls = [
        int(outcome.calls[kind][-1].max()) if kind in outcome.calls else 0 for kind in ("value", "gradient")
    ]
    row = f"{name:28} {calls[0]:>8,} {calls[1]:>10,}  {near[0]:.2f} ({near[1]:.2f})"
    return f"{row} {float(value.median()):>6.3f}  {reference}", torch.stack(path).numpy()


def draw(paths: dict[str, np.ndarray], out: Path) -> None:
    """The paths of four methods on the canyon."""
    env = optenvs.make("optenvs/GrandCanyon-v0")
    state = env.reset(torch.zeros(1, dtype=torch.int64))
    grid = np.linspace(*WINDOW, 301)

    def heights(points: np.ndarray) -> np.ndarray:
        return env.values_at(state.hidden, torch.from_numpy(points).float()).numpy()

    figure = new_figure(10.0, 2.9)
    for axes, name in zip(figure.subplots(1, 4, sharey=True), PANELS, strict=True):
        fill(axes, heights, grid, grid, np.zeros(2))
        axes.plot(*paths[name].transpose(2, 0, 1), color="white", linewidth=0.5, alpha=0.7)
        axes.plot(*paths[name][-1].T, "o", color="#D55E00", markeredgecolor="black", markersize=4)
        axes.plot(0, 0, "*", color="white", markeredgecolor="black", markersize=11)
        axes.set(title=name.removesuffix(", noise after the drift"), xlim=WINDOW, ylim=WINDOW, xlabel="$x_1$")
    figure.axes[0].set_ylabel("$x_2$")
    figure.savefig(out, dpi=85)


def film(out: Path) -> None:
    """One run of consensus-based optimization, a picture every five steps."""
    env, states = swarm(0.5, PARTICLES), []

    def keep(step: int, state: State) -> None:
        if step % 5 == 1:
            states.append(state)

    optenvs.rollout(env, agents.CBO(noise_after_drift=True), steps=UPDATES, on_step=keep)
    env.film(states, out)


def main() -> None:
    """Run all methods, print the table, draw the picture and the film."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("canyon.png"))
    parser.add_argument("--film", type=Path, help="a .gif (or .mp4, with ffmpeg) of one run")
    arguments = parser.parse_args()
    print(
        f"{'method':28} {'values':>8} {'gradients':>10}  {'success':11} {'E':>6}  {'reference':11} {'E':>8}"
    )
    paths = {}
    for name in METHODS:
        row, paths[name] = run(name, arguments.runs)
        print(row)
    draw(paths, arguments.out)
    print("wrote", arguments.out)
    if arguments.film:
        film(arguments.film)
        print("wrote", arguments.film)


if __name__ == "__main__":
    main()
