"""Parts of ``benchmarks/speed.py``: each side of a comparison is a module of tasks, run in a process of its own."""
