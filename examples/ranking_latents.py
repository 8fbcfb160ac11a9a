"""How does an order lead from noise to a picture? Digits of a diffusion model, ranked by a hidden taste.

    python examples/ranking_latents.py --out latents.png

Each row is an instance: a judge wants one digit, named at the left, and says in which order it likes the ten
images of a round, or which one of six it likes best. ZO-RankSGD knows nothing else; the columns are what it
stands behind after so many rounds. Needs the extra "plot".

Printed are means and medians over all instances. Measured with 100 of them and seed 0: the mean probability
of the hidden digit is 0.07 at the start, 0.62 after 4 rounds (33 images), 0.87 after 12 (97 images) and 0.97
after 40 (321 images), in a few seconds on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import agents
import optenvs
from optenvs.core.picture import new_figure
from optenvs.envs.ranking.latent import RankingLatent

DRAWN = 6


def main(arguments: list[str] | None = None) -> None:
    """Run, print the probabilities of the hidden digits, draw some of the instances."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--batch", type=int, default=100, help="instances")
    parser.add_argument("--rounds", type=int, default=40, help="rankings; two of them make an iteration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="draw to this file")
    options = parser.parse_args(arguments)
    env = optenvs.make("optenvs/RankingLatent-v0", budget=None)
    assert isinstance(env, RankingLatent)
    run = optenvs.rollout(
        env, agents.ZORankSGD(mu=0.5, lr=3.0), batch=options.batch, steps=options.rounds + 1,
        seed=options.seed, record=("point", "order"),
    )  # fmt: skip
    # what an answer has taught is recommended with the next query
    probability, shown = run.metrics["probability"][1:], run.calls["points"].double().mean(1)
    # after an even number of rounds a search has just told which point is the best: the first of its order
    places = [place for place in (0, 2, 4, 8, 12, 20, 40) if place <= options.rounds]
    for place in places:
        print(
            f"{place:3d} rounds, {shown[place]:4.0f} images: probability of the hidden digit "
            f"{probability[place].mean():.3f}, median {probability[place].median():.3f}"
        )
    if options.out is None:
        return
    rows = min(DRAWN, options.batch)
    first = run.recorded["order"][places, :rows, 0]
    points = run.recorded["point"][places, :rows]
    best = points.gather(2, first[..., None, None].expand(-1, -1, 1, env.size)).squeeze(2)
    images = env.images(best).transpose(0, 1).numpy()
    figure = new_figure(0.8 * len(places) + 0.5, 0.85 * rows + 0.3)
    axes = figure.subplots(rows, len(places), squeeze=False)
    for instance, row in enumerate(axes):
        row[0].set_ylabel(f"{int(run.state.hidden.oracle[instance])}", fontsize=14, rotation=0, labelpad=12)
        for column, axis in enumerate(row):
            axis.imshow(images[instance, column], cmap="gray_r", vmin=0, vmax=1, interpolation="bicubic")
            axis.set(xticks=[], yticks=[])
            if instance == 0:
                axis.set_title(f"{places[column]} rounds", fontsize=9)
    figure.savefig(options.out)
    print("wrote", options.out)


if __name__ == "__main__":
    main()
