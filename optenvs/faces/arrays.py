"""The vector face in numpy, with ``infos`` as Gymnasium's own vector environments give them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from .vector import TorchVectorEnv


class NumpyVectorEnv(TorchVectorEnv):
    """:class:`TorchVectorEnv` for whoever computes in numpy: ``gym.make_vec(id, num_envs=B, to="numpy")``.

    Gymnasium's vector wrappers (``RecordEpisodeStatistics``, ``NormalizeObservation``, ``NormalizeReward``,
    ``TransformReward``, ``DictInfoToList``, ``RecordVideo``, ...) assume numpy and pass on this face; so do
    learners written for them. Every step copies what it shows from the device: a learner that computes in
    torch is better off with tensors.

    Observations are the caller's own, of the space's dtype; rewards are float64. Each entry of ``infos``
    comes with a mask ``_name``, bool ``(B,)``, of the instances that have it; ``infos["final_obs"]`` is an
    array of the finished episodes' last observations, ``None`` elsewhere.
    """

    def reset(self, **options: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # type: ignore[override]
        """See :meth:`TorchVectorEnv.reset`."""
        observation, info = super().reset(**options)
        return _arrays(observation), self._masked(info)

    def step(  # type: ignore[override]
        self, actions: Any
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """See :meth:`TorchVectorEnv.step`."""
        observation, reward, terminated, truncated, info = super().step(actions)
        return (
            _arrays(observation),
            reward.cpu().numpy().astype(np.float64),
            terminated.cpu().numpy().copy(),
            truncated.cpu().numpy().copy(),
            self._masked(info),
        )

    def _masked(self, info: dict[str, Any], have: np.ndarray | None = None) -> dict[str, Any]:
        """``info`` in numpy, with the masks of the rows that ``have`` each entry; by default all."""
        have = np.ones(self.num_envs, bool) if have is None else have
        found: dict[str, Any] = {}
        for name, value in info.items():
            if name.startswith("_"):
                continue  # the mask of another entry
            mask = info[f"_{name}"].cpu().numpy() if f"_{name}" in info else have
            if name == "final_obs":
                found[name] = np.full(self.num_envs, None, object)
                arrays = _arrays(value)
                for i in np.flatnonzero(mask):
                    found[name][i] = {field: array[i] for field, array in arrays.items()}
            elif isinstance(value, dict):
                found[name] = self._masked(value, mask)
            else:
                found[name] = value.cpu().numpy().copy()
            found[f"_{name}"] = mask.copy()
        return found


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.cpu().numpy().copy() for name, value in tensors.items()}
