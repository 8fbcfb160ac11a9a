"""How long does a step of consensus-based optimization take, beside the library cbx 1.0.4?

100 runs of 100 particles in 20 dimensions on Rastrigin's function. A step here is the agent's (consensus and
move) and the environment's (values, ledger, reward, metrics) in a rollout of 200 steps, which keeps a record;
cbx's is the same without ledger and record. All are timed in one process, in turn, and the ratio is the
median over the rounds. Of cbx, the numpy back-end (its default, float64) and the torch back-end in both
precisions are timed, and ours are held to each; ``--compile`` adds ``rollout(compile=1)``, compiled before
the clock starts.

    python examples/benchmarks/particles.py --threads 2 --compile --repeats 12

Measured with torch 2.13 CPU on 2 quiet cores, medians (least) in ms a step, isotropic noise:

                         1 thread        2 threads
    ours float32         3.21 (3.01)     2.20 (1.92)
    compiled float32     0.84 (0.80)     0.52 (0.46)
    compiled float64     3.45 (3.29)     2.16 (1.73)
    cbx numpy (float64)  7.77 (6.69)     7.63 (6.78)
    cbx torch float32    2.24 (2.14)     2.42 (1.61)
    cbx torch float64    7.70 (6.04)     6.34 (5.08)

    times faster, 1 and 2 threads  than cbx numpy   than torch float32   than torch float64
    ours float32                   2.4, 3.5         0.7, 1.1             2.3, 2.9
    compiled float32               9.3, 15          2.7, 4.6             9.0, 12
    compiled float64               2.2, 3.5         0.7, 1.1             2.3, 3.0

Anisotropic noise: compiled float32 0.74 and 0.43 ms, 8.0 and 14 times faster than cbx numpy, 2.7 and 3.6 than
its torch back-end in float32. With both at their fastest, which is float32 on 2 threads, the goal of three
times is reached, compiled.

Page faults (some 200 a step, of memory that is given back and fetched again) cost a tenth of an eager step
and of cbx's. With the C library told to keep freed memory,

    export MALLOC_TOP_PAD_=67108864 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824

on 2 threads: ours 1.86, compiled 0.46, cbx torch float32 1.64, which is 3.6 times; on 1 thread 2.93, 0.82 and
2.27, 2.8 times.

Of a compiled step on 1 thread the counter-based normals take 0.30 ms (eager 1.05; torch.randn, whose numbers
depend on the batch and on the order of draws, 0.68), the cosines of the function 0.18, the calls 0.03, the
look at what has moved 0.07.
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
STEPS = 200  # timed together
OURS = {
    "ours float32": ("float32", 0),
    "ours float64": ("float64", 0),
    "compiled float32": ("float32", 1),
    "compiled float64": ("float64", 1),
}
"""The dtype, and how many steps are compiled together."""
THEIRS = ("numpy", "float32", "float64")
SETTINGS = {"sigma": 0.3, "alpha": 100.0, "dt": 0.01}


def ours(dtype: str, noise: str, compiled: int, steps: int) -> Callable[[], Any]:
    """A rollout: steps of agent and environment and their record. The first step is never compiled."""
    env = optenvs.make(
        "optenvs/Particles-v0", landscape="optenvs/Rastrigin-v0", dim=DIM, particles=PARTICLES, dtype=dtype,
        start_mean=2.0, start_std=1.0, budget=None, tolerance=None,
    )  # fmt: skip
    agent = agents.CBO(noise=noise, **SETTINGS)
    start = optenvs.rollout(env, agent, batch=RUNS, steps=1)
    return lambda: optenvs.rollout(env, agent, resume=start, steps=steps, compile=compiled)


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


def several(call: Callable[[], Any], steps: int) -> Callable[[], None]:
    """Steps in a row, as in a run: the first brings its memory back into the caches."""

    def calls() -> None:
        for _ in range(steps):
            call()

    return calls


def measure(
    noise: str,
    repeats: int = 15,
    clock: Callable[[], float] = time.perf_counter,
    compiled: bool = False,
    steps: int = STEPS,
) -> dict[str, float]:
    """Milliseconds of each, and how many times longer each of cbx takes than each of ours."""
    keys, zero = keys_from_seed(0, RUNS), torch.zeros(RUNS, dtype=torch.int64)
    mine = {name: how for name, how in OURS.items() if compiled or not how[1]}
    candidates: dict[str, Callable[[], Any]] = {
        **{name: ours(dtype, noise, chunk, steps) for name, (dtype, chunk) in mine.items()},
        **{f"cbx {backend}": several(theirs(backend, noise), steps) for backend in THEIRS},
        "normals float32": several(lambda: normal(keys, "n", (PARTICLES, DIM), zero), steps),
        "normals float64": several(lambda: normal(keys, "n", (PARTICLES, DIM), zero, torch.float64), steps),
        "randn float32": several(lambda: torch.randn(RUNS, PARTICLES, DIM), steps),
    }
    seconds = interleave(candidates, repeats, clock)
    found = {name: 1e3 / steps * statistics.median(times) for name, times in seconds.items()}
    found |= {f"least {name}": 1e3 / steps * min(times) for name, times in seconds.items()}
    for backend in THEIRS:
        for name in mine:
            found[f"cbx {backend} / {name}"] = ratio(seconds[f"cbx {backend}"], seconds[name])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                        help="cpu: processor time, steadier on a shared machine")  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="also with compile=1")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    print(machine())
    for noise in ("isotropic", "anisotropic"):
        found = measure(noise, arguments.repeats, clock, arguments.compile)
        print(f"\n{noise} noise, ms: median (least)")
        for name in found:
            if f"least {name}" in found:
                print(f"  {name:18} {found[name]:7.2f} ({found[f'least {name}']:.2f})")
        for name, value in found.items():
            if " / " in name:
                print(f"  {name:30} {value:6.2f}")


if __name__ == "__main__":
    main()
