"""A step of a peer, in the peers' environment: ``python -m joint.run train|predict GIVEN PEER MINUTES``."""

import argparse
import importlib
import importlib.metadata
import time
from pathlib import Path

from peers.folder import THREADS, use_two_cores, write_json
from side_by_side.worker import status_bytes

from joint.given import PEERS, Given

MODULES = {"nnunet": "joint.nnunet", "monai": "joint.monai_peer"}
PACKAGES = {"nnunet": ("nnunetv2", "torch"), "monai": ("monai", "torch")}


def main() -> None:
    """Run the step, and write what it was when it is finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("train", "predict"))
    parser.add_argument("given", type=Path)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("minutes", type=float)
    args = parser.parse_args()
    use_two_cores()
    given = Given(args.given)
    trained = given.trained(args.peer, args.minutes)
    trained.path.mkdir(parents=True, exist_ok=True)
    found = getattr(importlib.import_module(MODULES[args.peer]), args.step)(given, trained)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES[args.peer]}
    about = {"peer": args.peer, "minutes": args.minutes, "versions": versions, "threads": THREADS}
    used = {"cpu_seconds": round(time.process_time(), 1), "peak_bytes": status_bytes("VmHWM")}  # of this process
    write_json(trained.record_file(args.step), {**about, **found, **used})


if __name__ == "__main__":
    main()
