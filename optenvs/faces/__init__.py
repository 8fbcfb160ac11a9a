"""Thin interfaces over the contract; they know nothing of any problem."""
