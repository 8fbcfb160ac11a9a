"""Neural networks that stand for a simulation: optimize over their inputs, under constraints."""
