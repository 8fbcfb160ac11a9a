"""Pictures of a session of ranking: the best images of each round, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optenvs.core.env import State
from optenvs.core.picture import new_figure, to_array

if TYPE_CHECKING:
    from .latent import RankingLatent

ROUNDS, RANKS = 6, 10


def rounds(env: RankingLatent, states: list[State]) -> np.ndarray:
    """Some rounds of an episode (its first instance), evenly apart, and the last one.

    A row is a query: from left to right those of its images that were named, by rank. Of an episode in which
    some queries name more images than others (a search names one) those that name the most are drawn.

    Args:
        env: whose images they are.
        states: the episode.
    """
    named = [int((state.observation["order"][0] >= 0).sum()) for state in states]
    full = [place for place, count in enumerate(named) if count == max(named)]
    spread = np.linspace(0, len(full) - 1, min(ROUNDS, len(full))).round().astype(int)
    chosen = sorted({0, *(full[i] for i in spread), len(states) - 1})
    columns = min(RANKS, env.shown)
    figure = new_figure(0.75 * columns + 1.2, 0.85 * len(chosen) + 0.3)
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    for row, place in zip(axes, chosen, strict=True):
        state = states[int(place)]
        best = [i for i in state.observation["order"][0].tolist() if i >= 0][:columns]
        images = env.images(state.observation["point"][:1, best])[0].cpu().numpy()
        for rank, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if rank < len(best):
                axis.imshow(images[rank], cmap="gray_r", vmin=0, vmax=1, interpolation="bicubic")
                axis.set_title(f"{rank + 1}", fontsize=8, pad=2)
            else:
                axis.axis("off")
        row[0].set_ylabel(f"round {int(state.k[0])}", fontsize=8)
    return to_array(figure)
