"""Scores of optimizers on published splits, against tuned Adam: :func:`optenvs.score`."""
