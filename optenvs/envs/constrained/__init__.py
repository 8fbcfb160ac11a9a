"""Constrained programs: objective, constraints and their derivatives at a point, each paid by itself."""
