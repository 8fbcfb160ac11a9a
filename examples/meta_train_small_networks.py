"""Can an optimizer that was learned in minutes beat tuned ones on small networks, and where does it lose?

python examples/meta_train_small_networks.py --rule lolv2
python examples/meta_train_small_networks.py --rule adafac_mlp
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import time
from pathlib import Path
from typing import Any

import against_tuned
import torch
from tqdm import tqdm

import agents
import optenvs
from optenvs.core import keys_from_seed

NAME = "small-networks"
TASKS = against_tuned.SMALL_NETWORKS
RULES: dict[str, dict[str, Any]] = {
    "lolv2": {"step_multiplier": 0.01},
    "adafac_mlp": {"hidden": 32, "step_multiplier": 0.01},
}
LENGTHS, TRUNCATION, BATCH = (40, 60, 100, 200), 20, 8
CHOSEN, PERIOD = 2, 12  # the last so many checkpoints are tried, so many epochs apart
CHOOSING = 1_000_103  # seed of the tasks on which one is chosen


def meta_train(
    agent: agents.LearnedAgent, epochs: int, stop: int, lr: float, seed: int
) -> tuple[int, list[float]]:
    """Train the agent's network in place for ``stop`` of ``epochs``, and leave it at its best checkpoint.

    Returns:
        The epoch of that checkpoint, and the mean loss of every epoch.
    """
    outer = torch.optim.Adam(agent.parameters(), lr=lr)
    total = sum(LENGTHS[epoch % len(LENGTHS)] for epoch in range(epochs))
    history: list[float] = []
    done, best = 0, (math.inf, 0, agent.net.state_dict())
    bar = tqdm(range(stop), desc="meta-training", unit="epoch")
    for epoch in bar:
        steps = LENGTHS[epoch % len(LENGTHS)]
        env = against_tuned.made(TASKS[epoch % len(TASKS)], steps)
        keys, losses = keys_from_seed(seed, BATCH, first=BATCH * epoch), []
        for run in optenvs.unroll_windows(
            env, agent, steps=steps, truncation=TRUNCATION, keys=keys, second_order=False
        ):
            loss = run.merit[1:].mean()
            outer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(agent.parameters(), 1.0)
            outer.param_groups[0]["lr"] = lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done / total)))
            outer.step()
            losses.append(loss.item())
            done += TRUNCATION
        history.append(sum(losses) / len(losses))
        bar.set_postfix(loss=f"{history[-1]:.3f}", steps=steps)
        left = epochs - 1 - epoch
        if epoch == stop - 1 or (left % PERIOD == 0 and left < CHOSEN * PERIOD):
            found = chosen_by(agent)
            print(f"\nepoch {epoch + 1}: mean loss {found:.4f} on tasks of the choice", flush=True)
            if found < best[0]:
                best = (found, epoch + 1, copy.deepcopy(agent.net.state_dict()))
    agent.net.load_state_dict(best[2])
    return best[1], history


def chosen_by(agent: agents.Agent) -> float:
    """The mean loss over the steps on tasks that are used for the choice alone."""
    keys, steps = keys_from_seed(CHOOSING, BATCH), LENGTHS[-2]
    told = [against_tuned.course(against_tuned.made(task, steps), agent, keys, steps)[0] for task in TASKS]
    return torch.stack(told).mean().item()


def main(arguments: list[str] | None = None) -> None:
    """Train, save, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rule", choices=tuple(RULES), default="lolv2")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--stop", type=int, help="end after so many, as if those to come were still planned")
    parser.add_argument("--lr", type=float, default=5e-3, help="of Adam on the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-table", action="store_true", help="train alone")
    parser.add_argument("--out", type=Path, default=Path("results/meta_train_small_networks"))
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # the tensors are small: threads would cost more than they give
    agent, start = agents.make(options.rule, seed=options.seed, **RULES[options.rule]), time.process_time()
    stop = options.epochs if options.stop is None else options.stop
    epoch, history = meta_train(agent, options.epochs, stop, options.lr, options.seed)
    print("losses of the epochs:", " ".join(f"{loss:.3f}" for loss in history))
    print(f"best checkpoint: epoch {epoch}; {time.process_time() - start:.0f} seconds of a core")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.rule}-{NAME}.safetensors"
    agent.save(file)
    print(f"{file}: SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
    if not options.no_table:
        columns = against_tuned.COLUMNS[NAME]
        print(against_tuned.table(columns, against_tuned.compare(columns, agent, options.rule)))


if __name__ == "__main__":
    main()
