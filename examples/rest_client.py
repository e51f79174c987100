"""Segment a NIfTI scan with a model in TensorFlow Serving, over its REST interface.

Needs nibabel, SciPy and the other files of this folder. A voxel takes about ten bytes of JSON: for large scans
serving_client.py is the faster one.

    python rest_client.py scan.nii.gz labels.nii.gz --metadata exported/knee/1/assets/metadata.json --model knee
"""

import argparse
import json
import urllib.request
from pathlib import Path

import numpy as np
from scan_grid import read_channels, read_metadata, save_labels, segment_grid, to_model_grid


def segment(server: str, model: str, image, seconds: float = 300):
    """Labels (B, X, Y, Z) of images (B, X, Y, Z, K) float32 in [0, 1]."""
    body = json.dumps({"signature_name": "segment_rescaled", "inputs": {"image": image.tolist()}}).encode()
    url = f"{server}/v1/models/{model}:predict"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return np.array(json.load(answer)["outputs"]["labels"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", help="NIfTI file; of several channels one for each, with commas between them")
    parser.add_argument("labels", type=Path, help="NIfTI file to be written")
    parser.add_argument("--metadata", required=True, type=Path, help="assets/metadata.json of the exported model")
    parser.add_argument("--model", default="deepatlas", help="its name in the server")
    parser.add_argument("--server", default="http://localhost:8501", help="default: http://localhost:8501")
    args = parser.parse_args()
    metadata = read_metadata(args.metadata)
    scan, *others = read_channels(args.scan, metadata)
    grid = to_model_grid(scan, metadata, others)
    labels = segment_grid(lambda image: segment(args.server, args.model, image), grid, metadata)
    save_labels(labels, grid, scan, args.labels, metadata)


if __name__ == "__main__":
    main()
