"""Convex programs of two layers of rectified units, and what is built on their optimum."""
