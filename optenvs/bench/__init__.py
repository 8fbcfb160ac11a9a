"""Benchmarks: environments x agents x seeds x budget -> resumable results -> report."""
