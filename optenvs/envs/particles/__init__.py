"""Swarms: one query is ``N`` points, answered by ``N`` values; many agents on one problem."""
