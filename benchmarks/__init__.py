"""Measures the engine on a real store. `python -m benchmarks --help`."""
