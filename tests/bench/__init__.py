"""Benchmarks: `python3 -m tests.bench` prints ratios against baselines of the same run. They gate no test."""
