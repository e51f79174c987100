"""The processor's cores that this process may use."""

import os


def usable_cores() -> int:
    """Number of cores that this process may run on; in a container or under ``taskset`` they are not all."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
