"""Hippocampus of the Medical Segmentation Decathlon (Task04): T1 MR crops with anterior and posterior part labelled."""

import pathlib
import sys

import requests
from tqdm import tqdm

from deepatlas_tf.datasets.scan_builder import ScanBuilder, find_folder, scans_in
from deepatlas_tf.datasets.source import source_of
from deepatlas_tf.datasets.volume_builder import volume_config
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.types import DataError, MissingDataError

NAME = "Task04_Hippocampus"
TIMEOUT = 20  # seconds


class Builder(ScanBuilder):
    """``manual_dir`` is ``Task04_Hippocampus`` or contains it, unpacked or as the tar; else the tar is downloaded."""

    pkg_dir_path = pathlib.Path(__file__).parent
    # The copy that MONAI keeps. TFDS by itself finds checksums.tsv only where the package is not installed editable
    URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
    url_infos = tfds.download.checksums.load_url_infos(pkg_dir_path / "checksums.tsv")
    BUILDER_CONFIGS = [volume_config((48, 64, 48), (1, 1, 1)), volume_config((24, 32, 24), (2, 2, 2))]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
The hippocampus scans were not found.
Download Task04_Hippocampus.tar of the Medical Segmentation Decathlon (medicaldecathlon.com), unpack it, and give the
folder that contains Task04_Hippocampus with --manual_dir. Expected layout:
  Task04_Hippocampus/imagesTr/hippocampus_NNN.nii.gz
  Task04_Hippocampus/labelsTr/hippocampus_NNN.nii.gz
`--dataset phantom_knee` (synthetic) runs without these data."""
    LABELS = {"anterior": (1,), "posterior": (2,)}
    SPLIT = (40, 20, 100)

    def find_scans(self, manual_dir):
        folder = find_folder(manual_dir, NAME, "imagesTr", self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        return scans_in(folder / "imagesTr", folder / "labelsTr")

    def source(self, manual_dir):
        """The scans, or the tar, in ``manual_dir``; else the address of the download."""
        if manual_dir is not None:
            if (manual_dir / f"{NAME}.tar").exists() and not self._has_scans(manual_dir):
                return source_of([manual_dir / f"{NAME}.tar"])
            if self._has_scans(manual_dir):
                return super().source(manual_dir)
        return {"path": self.URL, "files": {}}

    def _has_scans(self, manual_dir: pathlib.Path) -> bool:
        try:
            return bool(self.find_scans(manual_dir))
        except MissingDataError:
            return False

    def _manual_dir(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        try:
            folder = super()._manual_dir(dl_manager)
            find_folder(folder, NAME, "imagesTr", self.MANUAL_DOWNLOAD_INSTRUCTIONS)
            return folder
        except MissingDataError:
            return self._download(dl_manager)

    def _download(self, dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
        """The unpacked tar: one in ``manual_dir``, an earlier download, or a new one."""
        tqdm.write(f"hippocampus: fetching {NAME}.tar (28 MB, once) from {self.URL}", file=sys.stderr)
        try:
            if not self._is_here(dl_manager):
                check_connection(self.URL)
            return pathlib.Path(dl_manager.download_and_extract(self.URL))
        except tfds.download.download_manager.NonMatchingChecksumError:
            raise DataError(
                f"{NAME}.tar is not the published file: its size or SHA-256 differs from that in checksums.tsv; remove "
                f"it from --manual_dir if it is there, and try again (source: {self.URL})"
            ) from None
        except Exception as error:  # requests, gfile and tarfile raise kinds of their own
            offline = isinstance(error, requests.RequestException)
            reason = "no connection" if offline else " ".join(str(error).split()) or type(error).__name__
            raise MissingDataError(
                f"{self.URL} could not be downloaded ({reason}).\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            ) from error

    def _is_here(self, dl_manager: tfds.download.DownloadManager) -> bool:
        name = tfds.download.resource.get_dl_fname(self.URL, self.url_infos[self.URL].checksum)
        downloaded = pathlib.Path(dl_manager.download_dir) / self.name / name
        try:
            return downloaded.exists() or (super()._manual_dir(dl_manager) / f"{NAME}.tar").exists()
        except MissingDataError:
            return False


def check_connection(url: str) -> None:
    """Raises requests' ConnectionError at once where TFDS would go on trying for some minutes."""
    if url.startswith("http"):
        requests.head(url, timeout=TIMEOUT).close()
