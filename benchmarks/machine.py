"""The machine that the figures were measured on."""

import os
import platform
from pathlib import Path


def machine(gpus: int | None = None) -> dict:
    """Platform, processor and number of GPUs; load: programs that wanted a core in the last minute, this one too.

    ``gpus``: their number; by default as many as TensorFlow finds.
    """
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "gpus": _gpus_of_tensorflow() if gpus is None else gpus,
        "load": round(os.getloadavg()[0], 1),
    }


def _gpus_of_tensorflow() -> int:
    from deepatlas_tf.keras_stack import tf  # a process without TensorFlow says the number itself

    return len(tf.config.list_physical_devices("GPU"))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()
