"""What is wrong with the channels of a scan, which all have to be there and to lie on one grid."""

from deepatlas_tf.datasets.listing import ListedScan, Listing, missing_channel
from deepatlas_tf.scans import checks, nifti
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.types import DataError
from deepatlas_tf.validation.scan_summary import Problem


def channel_problems(listing: Listing, scan: ListedScan, first: Nifti | None) -> list[Problem]:
    """What is wrong with the channels of a scan besides its first image, which is read already."""
    missing = missing_channel(listing, scan) if any(scan.images) else None
    problems = [Problem("missing channel", f"subject {scan.subject}: {missing}")] if missing else []
    for name, path in zip(listing.channel_names[1:], scan.others, strict=True):
        if path is None:
            continue
        try:
            other = nifti.read_image(path, scan.subject, nifti.count_axes(path, scan.subject), lambda _: None)
        except DataError as error:
            problems.append(Problem("unusable image", str(error)))
            continue
        if scan.image is not None and first is not None:
            try:
                checks.check_same_grid(scan.subject, (scan.image, first), (path, other), f"channel {name},")
            except DataError as error:
                problems.append(Problem("channels on different grids", str(error)))
    return problems
