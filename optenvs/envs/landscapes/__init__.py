"""Synthetic functions: one query is one point, billed by what is answered about it."""
