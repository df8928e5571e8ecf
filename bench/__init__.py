"""Benchmarks: each module has `run()`, which gives rows; `bin/bench` runs them all."""
