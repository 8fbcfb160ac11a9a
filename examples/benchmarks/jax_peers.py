"""The same work in JAX, for those who have it: the other side of ``persistent_es.py`` and ``discovery.py``.

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 0 python examples/benchmarks/jax_peers.py pes
    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 0 python examples/benchmarks/jax_peers.py lives

Needs jax, and for ``pes`` evosax (measured with 0.3.2): best in an environment of their own, as this script
needs nothing of the project. ``pes``: evosax's ``PersistentES`` on x <- (1 - theta) x, a lifetime of four
windows of five steps in one compiled function; members times windows a second. ``lives``: lives of learners
in tiny grid worlds by a learned policy gradient, batched by ``vmap``, updates and steps by ``scan``; lives a
second of processor time. Both in float32, and compile time apart.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

try:
    import jax
    import jax.numpy as jnp
    from jax import lax, random
except ImportError:
    sys.exit(
        "jax_peers: needs jax (and for pes evosax): pip install jax evosax, in an environment of their own"
    )

# Persistent evolution strategies ---------------------------------------------------------------


def pes(members: int) -> Callable[[], Any]:
    """A lifetime of windows."""
    import optax
    from evosax.algorithms import PersistentES

    std, theta, window, life = 0.005, jnp.array([0.1]), 5, 20
    solver = PersistentES(
        population_size=members,
        solution=theta,
        optimizer=optax.sgd(0.0),
        std_schedule=optax.constant_schedule(std),
        metrics_fn=lambda *_: {},
    )
    params = solver.default_params.replace(T=life, K=window)
    begun = solver.init(random.key(0), theta, params)

    def play(carry: Any, key: Any) -> Any:
        state, x = carry
        population, state = solver.ask(key, state, params)

        def step(x: Any, _: Any) -> Any:
            x = (1 - population[:, 0]) * x
            return x, 0.5 * x * x

        x, losses = lax.scan(step, x, None, length=window)
        state, _ = solver.tell(key, population, losses.sum(0), state, params)
        return (state, jnp.where(state.inner_step_counter == 0, 1.0, x)), None

    @jax.jit
    def lifetime(key: Any) -> Any:
        keys = random.split(key, life // window)
        (state, _), _ = lax.scan(play, (begun, jnp.ones(members)), keys)
        return state.pert_accum.sum() + state.mean.sum()

    return lambda: lifetime(random.key(1)).block_until_ready()


# Lives in tiny grid worlds ---------------------------------------------------------------------

CELLS, SLOTS, ACTIONS = 16, 2, 5
STATES = CELLS << SLOTS
WORKERS, STEPS, MOST, LONGEST = 8, 10, 30, 20
CATEGORIES, EMBEDDING, HIDDEN = 4, 4, 8
SHAPES = {
    "e1": (CATEGORIES, EMBEDDING), "b1": (EMBEDDING,), "e2": (EMBEDDING, 1), "b2": (1,),
    "w": (7, 3 * HIDDEN), "b": (3 * HIDDEN,), "u": (HIDDEN, 3 * HIDDEN),
    "push": (HIDDEN, 1), "bp": (1,), "target": (HIDDEN, CATEGORIES), "bt": (CATEGORIES,),
}  # fmt: skip


def log_whole(key: Any, low: int, high: int) -> Any:
    """A whole number, log-uniform."""
    drawn = jnp.exp(random.uniform(key, (), minval=jnp.log(low), maxval=jnp.log(high + 1)))
    return jnp.clip(jnp.floor(drawn).astype(int), low, high)


def draw_level(key: Any) -> dict[str, Any]:
    """A grid of 3 x 3 or 4 x 4 cells with two walls and one or two objects."""
    k = random.split(key, 9)
    n, cell = random.randint(k[0], (), 3, 5), jnp.arange(CELLS)
    walls = jnp.isin(cell, random.permutation(k[1], CELLS)[:2])
    free = (cell < n * n) & ~walls
    places = jnp.argsort(jnp.where(free, 0.0, 2.0) + random.uniform(k[2], (CELLS,)))
    row, column = cell // n, cell % n
    ways = jnp.stack(
        [
            jnp.where(row > 0, cell - n, cell),
            jnp.where(row < n - 1, cell + n, cell),
            jnp.where(column > 0, cell - 1, cell),
            jnp.where(column < n - 1, cell + 1, cell),
            cell,
        ],
        1,
    )
    ways = jnp.clip(ways, 0, CELLS - 1)
    used = random.uniform(k[3], (SLOTS,)) < jnp.array([1.0, 0.5])

    def share(key: Any) -> Any:
        return used * jnp.exp(random.uniform(key, (SLOTS,), minval=jnp.log(1e-2), maxval=0.0))

    return {
        "target": jnp.where(walls[ways], cell[:, None], ways),
        "start": places[0],
        "cells": places[1 : SLOTS + 1],
        "used": used,
        "reward": used * random.uniform(k[4], (SLOTS,), minval=jnp.array([0.0, -1.0])),
        "ends": share(k[5]),
        "returns": 0.1 * share(k[6]),
        "longest": log_whole(k[7], 10, 20),
    }


def place_of(worker: Any) -> Any:
    """The number of the state, and the time as policies see it."""
    cell, present, now = worker
    return cell + CELLS * (present * jnp.array([1, 2])).sum(), 1e-3 * now


def move(level: dict[str, Any], worker: Any, action: Any, luck: Any) -> Any:
    """One step of one worker: where it stands, the reward, and whether the episode is over."""
    cell, present, now = worker
    cell = level["target"][cell, action]
    hit = present & (level["cells"] == cell)
    present = (present | (luck[1 : SLOTS + 1] < level["returns"])) & ~hit
    over = (luck[0] < (hit * level["ends"]).sum()) | (now + 1 >= level["longest"])
    return (cell, present, now + 1), (hit * level["reward"]).sum(), over


def begin(level: dict[str, Any]) -> Any:
    """A worker at the start of an episode."""
    return level["start"], level["used"], 0


def choose(table: Any, worker: Any, luck: Any) -> Any:
    """The action that the policy draws, and where."""
    state, now = place_of(worker)
    shares = jnp.cumsum(jax.nn.softmax(table[state] + now * table[-1]))
    return (luck >= shares[:-1]).sum(), state, now


def window(level: dict[str, Any], actor: Any, worker: Any, key: Any) -> Any:
    """One worker's steps."""

    def step(worker: Any, luck: Any) -> Any:
        action, state, now = choose(actor, worker, luck[-1])
        after, reward, over = move(level, worker, action, luck)
        after = jax.tree.map(lambda new, old: jnp.where(over, new, old), begin(level), after)
        return after, (state, now, action, reward, over.astype(jnp.float32))

    worker, seen = lax.scan(step, worker, random.uniform(key, (STEPS, SLOTS + 2)))
    return worker, seen, place_of(worker)


def rule(p: dict[str, Any], seen: Any, chosen: Any, y: Any, share: Any, whole: Any) -> Any:
    """The network, from the last transition of a worker to the first."""
    reward, over = seen[3], seen[4]
    embedded = (jax.nn.relu(y @ p["e1"] + p["b1"]) @ p["e2"] + p["b2"])[:, 0]
    time_ = jnp.broadcast_to(jnp.stack([share, jnp.log(whole)]), (STEPS, 2))
    x = jnp.stack([reward, over, chosen, embedded[:-1], (1 - over) * embedded[1:]], 1)
    entered = jnp.concatenate([x, time_], 1) @ p["w"] + p["b"]

    def remember(h: Any, now: Any) -> Any:
        inner, keeps = now
        h = keeps * h
        more = h @ p["u"]
        gates = jax.nn.sigmoid(inner[: 2 * HIDDEN] + more[: 2 * HIDDEN])
        rho, z = gates[:HIDDEN], gates[HIDDEN:]
        h = (1 - z) * jnp.tanh(inner[2 * HIDDEN :] + rho * more[2 * HIDDEN :]) + z * h
        return h, h

    _, hidden = lax.scan(remember, jnp.zeros(HIDDEN), (entered, 1 - over), reverse=True)
    hidden = jax.nn.relu(hidden)
    return (hidden @ p["push"] + p["bp"])[:, 0], jax.nn.softmax(hidden @ p["target"] + p["bt"])


def clipped(slope: Any, rate: float) -> Any:
    """A step: the slope clipped to a norm of a half, times the rate."""
    norm = jnp.sqrt(jnp.sum(slope**2))
    return rate * slope * jnp.where(norm > 0.5, 0.5 / jnp.maximum(norm, 1e-30), 1.0)


def life(p: dict[str, Any], key: Any) -> Any:
    """The mean return of what a learner has become."""
    k = random.split(key, 4)
    level, whole = draw_level(k[0]), log_whole(k[1], 3, MOST)
    fresh = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (WORKERS, *jnp.shape(leaf))), begin(level))

    def update(carry: Any, now: Any) -> Any:
        actor, critic, workers = carry
        number, key = now
        workers, seen, last = jax.vmap(window, (None, None, 0, 0))(
            level, actor, workers, random.split(key, WORKERS)
        )
        state, time_, action = seen[:3]
        at = jnp.concatenate([state, last[0][:, None]], 1), jnp.concatenate([time_, last[1][:, None]], 1)

        def look(table: Any, at: Any) -> Any:
            return table[at[0]] + at[1][..., None] * table[-1]

        y = jax.nn.softmax(look(critic, at))
        policy = jax.nn.softmax(look(actor, (state, time_)))
        chosen = jnp.take_along_axis(policy, action[..., None], -1)[..., 0] + 1e-8
        push, wanted = jax.vmap(rule, (None, 0, 0, 0, None, None))(
            p, seen, chosen, y, number / whole, whole.astype(jnp.float32)
        )

        def loss(tables: Any) -> Any:
            actor, critic = tables
            logs = jnp.log(jax.nn.softmax(look(actor, (state, time_))) + 1e-8)
            taken = jnp.take_along_axis(logs, action[..., None], -1)[..., 0]
            y = jax.nn.softmax(look(critic, (state, time_)))
            away = (y * (jnp.log(y + 1e-8) - jnp.log(wanted + 1e-8))).sum(-1)
            return (taken * push).mean() + 0.5 * away.mean()

        slopes = jax.grad(loss)((actor, critic))
        alive = number < whole
        actor = jnp.where(alive, actor - clipped(slopes[0], 40.0), actor)
        critic = jnp.where(alive, critic - clipped(slopes[1], 4.0), critic)
        return (actor, critic, workers), None

    tables = jnp.zeros((STATES + 1, ACTIONS)), jnp.zeros((STATES + 1, CATEGORIES))
    numbers = jnp.arange(MOST), random.split(k[2], MOST)
    (actor, _, _), _ = lax.scan(update, (*tables, fresh), numbers)

    def episode(key: Any) -> Any:
        def step(carry: Any, luck: Any) -> Any:
            worker, alive = carry
            action, _, _ = choose(actor, worker, luck[-1])
            worker, reward, over = move(level, worker, action, luck)
            return (worker, alive & ~over), alive * reward

        _, rewards = lax.scan(step, (begin(level), True), random.uniform(key, (LONGEST, SLOTS + 2)))
        return rewards.sum()

    return jax.vmap(episode)(random.split(k[3], WORKERS)).mean()


def lives(count: int) -> Callable[[], Any]:
    """Lives by a rule of each one's own."""
    keys = random.split(random.key(0), len(SHAPES))
    weights = {
        name: random.normal(key, (count, *shape)) / (shape[0] ** 0.5 if len(shape) > 1 else jnp.inf)
        for (name, shape), key in zip(SHAPES.items(), keys, strict=True)
    }
    together = jax.jit(jax.vmap(life))
    own = random.split(random.key(1), count)
    return lambda: together(weights, own).block_until_ready()


def rate(call: Callable[[], Any], count: float, repeats: int) -> float:
    """How many a second of processor time, at the median; the first call compiles."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return count / sorted(seconds)[repeats // 2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("pes", "lives"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", help="members, or lives")
    asked = parser.parse_args()
    print(f"jax {jax.__version__}, load {os.getloadavg()[0]:.1f}")
    if asked.what == "pes":
        for members in asked.sizes or (2_000, 20_000, 100_000):
            print(f"{members:7} members: {rate(pes(members), 4 * members, asked.repeats) / 1e6:.1f}e6")
    else:
        for count in asked.sizes or (128, 512):
            print(f"{count:7} lives: {rate(lives(count), count, asked.repeats):.0f}")


if __name__ == "__main__":
    main()
