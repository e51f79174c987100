"""What this process may use of the machine."""

import os


def usable_cores() -> int:
    """Number of cores that this process may run on, which in a container or under ``taskset`` are not all."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
