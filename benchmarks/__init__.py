"""Speed and memory, measured: each module is one command, `python -m benchmarks.NAME`."""
