"""Learned policy gradient: the network that tells an agent where its policy and its critic should go.

Oh et al. 2020 (arXiv 2007.08794), in the form that Jackson et al. 2024 (arXiv 2402.05828, code groove)
publish. Per transition of a rollout it sees

    x_t = [ r_t, d_t, pi(a_t | s_t), phi(y(s_t)), (1 - d_t) phi(y(s_t+1)) ]      (9: and n / N, log N)

with phi a perceptron m -> embedding (ReLU) -> 1, and runs a gated recurrent unit over it from the last
transition to the first; before x_t the memory is cleared where d_t = 1, so that nothing of the next episode
is seen. A ReLU and two affine layers then give the update pi-hat_t and, by a softmax, the target y-hat_t.

    rho, z = sigmoid(W x + b + U h),   c = tanh(W_c x + b_c + rho (U_c h)),   h <- (1 - z) c + z h

The agent *descends* log pi * pi-hat, so that pi-hat is the negative of an advantage. Weights are a flat
vector with a public layout, a row for each of R candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys

from .base import Parameters, Slot, cut, draw_slots, linear


@dataclass(frozen=True)
class LPG:
    """The architecture, without weights.

    Attributes:
        categories: m, of the critic.
        embedding: hidden units of phi.
        hidden: units of the recurrent layer.
        timed: whether it sees the time, n / N and log N.
    """

    categories: int = 8
    embedding: int = 16
    hidden: int = 256
    timed: bool = False

    def __post_init__(self) -> None:
        for name in ("categories", "embedding", "hidden"):
            value = getattr(self, name)
            least = 2 if name == "categories" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected a whole number >= {least}, got {value!r}")

    @property
    def inputs(self) -> int:
        """Numbers that the recurrent layer sees of a transition."""
        return 7 if self.timed else 5

    @cached_property
    def layout(self) -> tuple[Slot, ...]:
        """The slots of the flat vector, in order; the recurrent ones are of rho, z and c."""
        units = 3 * self.hidden
        return (
            *linear("embedding1", self.categories, self.embedding),
            *linear("embedding2", self.embedding, 1),
            Slot("input.weight", (units, self.inputs), fan_in=self.inputs),
            Slot("input.bias", (units,), "zeros"),
            Slot("memory.weight", (units, self.hidden), fan_in=self.hidden),
            *linear("update", self.hidden, 1),
            *linear("target", self.hidden, self.categories),
        )

    @property
    def size(self) -> int:
        """D, the number of weights."""
        return sum(slot.size for slot in self.layout)

    def draw(self, keys: Keys, dtype: torch.dtype) -> Float[Tensor, "R D"]:
        """Weights to begin with: normal with variance 1 / fan-in, biases 0."""
        return draw_slots(self.layout, keys, dtype)

    def __call__(
        self,
        weights: Float[Tensor, "R D"],
        reward: Float[Tensor, "R T n"],
        over: Float[Tensor, "R T n"],
        chosen: Float[Tensor, "R T n"],
        critic: Float[Tensor, "R T1 n m"],
        time: Float[Tensor, "R n 2"] | None = None,
    ) -> tuple[Float[Tensor, "R T n"], Float[Tensor, "R T n m"]]:
        """Update pi-hat and target y-hat of each transition.

        Args:
            weights: one set a candidate.
            reward: by step, of the n rollouts of each candidate.
            over: 1 where an episode ended with the transition, else 0.
            chosen: the probability of the action that was taken.
            critic: y before each transition and after the last; of what comes after a transition that ended
                an episode, nothing is seen.
            time: n / N and log N of each rollout, where the rule is ``timed``.
        """
        if (time is None) == self.timed:
            raise ValueError(f"time: expected {'n / N and log N' if self.timed else 'None'}, got {time!r}")
        p = cut(self.layout, weights)
        goes_on = 1 - over
        embedded = self._embed(p, critic)  # (R, T + 1, n)
        seen = [reward, over, chosen, embedded[:, :-1], goes_on * embedded[:, 1:]]
        if time is not None:
            seen += [part.unsqueeze(1).expand_as(reward) for part in time.unbind(-1)]
        hidden = torch.relu(self._remember(p, torch.stack(seen, -1), goes_on))
        heads = torch.cat((p["update.weight"], p["target.weight"]), 1)
        biases = torch.cat((p["update.bias"], p["target.bias"]), 1)
        out = torch.baddbmm(biases.unsqueeze(1), hidden.flatten(1, 2), _across(heads))
        push, logits = out.unflatten(1, reward.shape[1:]).split((1, self.categories), -1)
        # a softmax over the last, short dimension takes several times as long
        wanted = logits.movedim(-1, 1).contiguous().softmax(1).movedim(1, -1)
        return push.squeeze(-1), wanted

    def _embed(self, p: Parameters, critic: Float[Tensor, "R T1 n m"]) -> Float[Tensor, "R T1 n"]:
        flat = critic.flatten(1, 2)
        hidden = torch.baddbmm(p["embedding1.bias"].unsqueeze(1), flat, _across(p["embedding1.weight"]))
        out = torch.baddbmm(
            p["embedding2.bias"].unsqueeze(1), torch.relu(hidden), _across(p["embedding2.weight"])
        )
        return out.view(critic.shape[:-1])

    def _remember(
        self, p: Parameters, seen: Float[Tensor, "R T n i"], goes_on: Float[Tensor, "R T n"]
    ) -> Float[Tensor, "R T n h"]:
        """The memory after each transition, from the last to the first."""
        width = self.hidden
        entered = torch.baddbmm(
            p["input.bias"].unsqueeze(1), seen.flatten(1, 2), _across(p["input.weight"])
        ).unflatten(1, seen.shape[1:3])
        recurrent, h = _across(p["memory.weight"]), None
        after = []
        parts = entered[..., : 2 * width], entered[..., 2 * width :], goes_on.unsqueeze(-1)
        for gates, candidate, keeps in zip(*(part.unbind(1)[::-1] for part in parts), strict=True):
            if h is None:  # nothing is remembered yet
                h = torch.tanh(candidate) * torch.sigmoid(-gates[..., width:])
            else:
                h = keeps * h
                more = torch.bmm(h, recurrent)
                # narrow and chunk are torch's own; split goes through Python
                old = more.narrow(-1, 2 * width, width)
                rho, z = torch.sigmoid(gates + more.narrow(-1, 0, 2 * width)).chunk(2, -1)
                h = torch.lerp(torch.tanh(torch.addcmul(candidate, rho, old)), h, z)
            after.append(h)
        return torch.stack(after[::-1], 1)


def _across(weight: Float[Tensor, "R o i"]) -> Float[Tensor, "R i o"]:
    """Laid out so that products of many small matrices are fast."""
    return weight.mT.contiguous()
