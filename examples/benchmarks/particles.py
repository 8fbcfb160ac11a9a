"""How long does a step of consensus-based optimization take, beside the library cbx 1.0.4?

100 runs of 100 particles in 20 dimensions on Rastrigin's function. A step here is the agent's (consensus and
move) and the environment's (values, ledger, reward, metrics); cbx's is the same without a ledger. Both are
timed in one process, in turn, and the ratio is the median over the rounds. Of cbx, the numpy back-end (its
default, float64) and the torch back-end in both precisions are timed, and ours are held to each.

    python examples/benchmarks/particles.py --threads 1 --clock cpu

Measured with torch 2.13 CPU, one thread, processor time, on a machine that was busy with other work (medians,
ms a step; isotropic and anisotropic noise):

    ours float32     2.86, 3.19        cbx numpy (float64)     8.25, 8.39
    ours float64     4.90, 5.22        cbx torch float32       2.36, 2.51
                                       cbx torch float64       6.68, 7.52

    times faster         than cbx numpy    than torch float32    than torch float64
    ours float32         2.85, 2.62        0.82, 0.80            2.33, 2.36
    ours float64         1.72, 1.62        0.48, 0.49            1.37, 1.41

So the goal of three times is missed: narrowly beside the default back-end, and by far beside the torch
back-end in float32, which is the faster one. Of our 2.9 ms in float32 the counter-based normals take 1.1
(torch.randn, whose numbers depend on the batch and on the order of draws: 0.7), the cosines of the function
0.3, the rest of its values 0.15, the look at what has moved 0.1, the metrics 0.13. About 300 page faults a
step, of memory that the C library gives back and fetches again, take 0.2 to 0.8; with MALLOC_TOP_PAD_,
MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ large, the float32 ratios to numpy were 2.75 and 2.89. Two
threads could not be measured on that machine. A compiled normal transform alone took 0.3 ms, but compiling
``optenvs.core.random.bits`` as it stood, or the agent's whole step, ended in heap corruption (torch 2.13), so
that nothing here is compiled.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import cbx.dynamics
import cbx.utils.torch_utils as cbx_torch
import numpy as np
import torch
from timing import interleave, machine, ratio

import agents
import optenvs
from optenvs.core.random import keys_from_seed, normal

RUNS, PARTICLES, DIM = 100, 100, 20
STEPS = 50  # timed together
OURS = {
    "float32": ("float32", 0),
    "float64": ("float64", 0),
    "compiled float32": ("float32", 1),
    "compiled float64": ("float64", 1),
}
"""The dtype, and how many steps are compiled together."""
THEIRS = ("numpy", "float32", "float64")
SETTINGS = {"sigma": 0.3, "alpha": 100.0, "dt": 0.01}


def ours(dtype: str, noise: str, compiled: int = 0) -> Callable[[], Any]:
    """A rollout: steps of agent and environment and their record. The first step is never compiled."""
    env = optenvs.make(
        "optenvs/Particles-v0", landscape="optenvs/Rastrigin-v0", dim=DIM, particles=PARTICLES, dtype=dtype,
        start_mean=2.0, start_std=1.0, budget=None, tolerance=None,
    )  # fmt: skip
    agent = agents.CBO(noise=noise, **SETTINGS)
    start = optenvs.rollout(env, agent, batch=RUNS, steps=1)
    return lambda: optenvs.rollout(env, agent, resume=start, steps=STEPS, compile=compiled)


def numpy_rastrigin(x: np.ndarray) -> np.ndarray:
    """Rastrigin's function of cbx's arrays."""
    return (x * x + 10 * (1 - np.cos(2 * math.pi * x))).sum(-1)


def torch_rastrigin(x: torch.Tensor) -> torch.Tensor:
    """The same of tensors."""
    return (x * x + 10 * (1 - torch.cos(2 * math.pi * x))).sum(-1)


def theirs(backend: str, noise: str) -> Callable[[], None]:
    """One step of cbx; it keeps no history."""
    common: dict[str, Any] = {
        "f_dim": "3D", "check_f_dims": False, "verbosity": 0, "max_it": 10**9, "track_args": {"names": []},
        "noise": noise, **SETTINGS,
    }  # fmt: skip
    start = np.random.default_rng(0).normal(2.0, 1.0, (RUNS, PARTICLES, DIM))
    if backend == "numpy":
        return cbx.dynamics.CBO(numpy_rastrigin, x=start, **common).step
    dtype = getattr(torch, backend)
    dynamic = cbx.dynamics.CBO(
        torch_rastrigin,
        x=torch.from_numpy(start).to(dtype),
        copy=torch.clone,
        norm=cbx_torch.norm_torch,
        compute_consensus=cbx_torch.compute_consensus_torch,
        sampler=lambda size: torch.randn(size, dtype=dtype),
        post_process=cbx_torch.post_process_default_torch(),
        **common,
    )
    return dynamic.step


def several(call: Callable[[], Any]) -> Callable[[], None]:
    """Steps in a row, as in a run: the first brings its memory back into the caches."""

    def calls() -> None:
        for _ in range(STEPS):
            call()

    return calls


def measure(
    noise: str, repeats: int = 15, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Milliseconds of each, and how many times longer each of cbx takes than each of ours."""
    keys, zero = keys_from_seed(0, RUNS), torch.zeros(RUNS, dtype=torch.int64)
    candidates: dict[str, Callable[[], Any]] = {
        **{name: ours(how[0], noise, how[1]) for name, how in OURS.items()},
        **{f"cbx {backend}": several(theirs(backend, noise)) for backend in THEIRS},
        "normals float32": several(lambda: normal(keys, "n", (PARTICLES, DIM), zero)),
        "normals float64": several(lambda: normal(keys, "n", (PARTICLES, DIM), zero, torch.float64)),
        "randn float32": several(lambda: torch.randn(RUNS, PARTICLES, DIM)),
    }
    seconds = interleave(candidates, repeats, clock)
    found = {name: 1e3 / STEPS * statistics.median(times) for name, times in seconds.items()}
    found |= {f"least {name}": 1e3 / STEPS * min(times) for name, times in seconds.items()}
    for backend in THEIRS:
        for name in OURS:
            found[f"cbx {backend} / {name}"] = ratio(seconds[f"cbx {backend}"], seconds[name])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                        help="cpu: processor time, steadier on a shared machine")  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    print(machine())
    for noise in ("isotropic", "anisotropic"):
        found = measure(noise, arguments.repeats, clock)
        print(f"\n{noise} noise, ms: median (least)")
        for name in found:
            if f"least {name}" in found:
                print(f"  {name:18} {found[name]:7.2f} ({found[f'least {name}']:.2f})")
        for name, value in found.items():
            if " / " in name:
                print(f"  {name:30} {value:6.2f}")


if __name__ == "__main__":
    main()
