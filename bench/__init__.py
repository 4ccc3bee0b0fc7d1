"""Benchmarks: one file per promise, run by scripts/bench; ratios measured side by side, never a timed test."""
