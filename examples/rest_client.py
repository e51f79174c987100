"""Segment a NIfTI scan with a model in TensorFlow Serving, over its REST interface.

Needs nibabel, SciPy and the other files of this folder. A voxel takes about ten bytes of JSON: for large scans
serving_client.py is the faster one.

    python rest_client.py scan.nii.gz labels.nii.gz --metadata exported/knee/1/assets/metadata.json --model knee
"""

import argparse
import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from scan_grid import check_output, read_channels, read_metadata, save_labels, segment_grid, to_model_grid


def segment(server: str, model: str, image, seconds: float = 300):
    """Labels (B, X, Y, Z) of images (B, X, Y, Z, K) float32 in [0, 1].

    Ends the program with one line where the server does not answer, or refuses.
    """
    body = json.dumps({"signature_name": "segment_rescaled", "inputs": {"image": image.tolist()}}).encode()
    url = f"{server}/v1/models/{model}:predict"
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return np.array(json.load(answer)["outputs"]["labels"])
    except urllib.error.HTTPError as error:  # such as 404 for a model that the server does not have
        raise SystemExit(f"{url} refuses: {error}. {_first_line(error)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise SystemExit(f"{url} does not answer ({error}): check --server, and that it runs") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{url} is not TensorFlow Serving's REST interface ({error}): check --server") from None


def _first_line(refusal: urllib.error.HTTPError) -> str:
    """What the server says, at most 300 letters of its first line."""
    text = refusal.read().decode(errors="replace")
    try:
        text = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        pass  # a page of another server
    return str(text).strip().partition("\n")[0][:300]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", help="NIfTI file; of several channels one for each, with commas between them")
    parser.add_argument("labels", type=Path, help="NIfTI file to be written")
    parser.add_argument("--metadata", required=True, type=Path, help="assets/metadata.json of the exported model")
    parser.add_argument("--model", default="deepatlas", help="its name in the server")
    parser.add_argument("--server", default="http://localhost:8501", help="default: http://localhost:8501")
    args = parser.parse_args()
    check_output(args.labels)
    metadata = read_metadata(args.metadata)
    scan, *others = read_channels(args.scan, metadata)
    grid = to_model_grid(scan, metadata, others)
    labels = segment_grid(lambda image: segment(args.server, args.model, image), grid, metadata)
    save_labels(labels, grid, scan, args.labels, metadata)


if __name__ == "__main__":
    main()
