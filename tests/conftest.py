"""One thread, and the shapes in annotations checked at run time."""

from __future__ import annotations

import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
install_import_hook("optenvs", "typechecking.check")
