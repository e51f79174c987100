"""The machine that the figures were measured on."""

import os
import platform
from pathlib import Path

from deepatlas_tf.keras_stack import tf


def machine() -> dict:
    """Platform, processor and number of GPUs; load: programs that wanted a core in the last minute, this one too."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()
