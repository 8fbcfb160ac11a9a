"""The draws of constrained logistic regression that published counts rest on."""

from __future__ import annotations

import numpy as np


def regression(seed: int) -> dict[str, np.ndarray]:
    """351 samples of 34 features, and ten equations that leave room on the unit sphere."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (351, 34))
    weights, noise = rng.standard_normal(34), rng.standard_normal(351)
    labels = np.sign(features @ weights + 0.5 * noise)
    while True:
        A, b = rng.standard_normal((10, 34)), rng.standard_normal(10)
        if np.linalg.norm(np.linalg.pinv(A) @ b) < 0.95:
            return {"features": features, "labels": labels, "A": A, "b": b}
