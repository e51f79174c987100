"""Building a data set with TFDS once: whole or not at all, also where the disk is full or two processes build it."""

import contextlib
import errno
import fcntl
import importlib
import io
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.types import DataError, MissingDataError

_INCOMPLETE = tfds.core.constants.INCOMPLETE_PREFIX  # of a folder that TFDS writes before it has its name
_IN_MEMORY = 16 * 2**20  # bytes of records of a split that TFDS may keep in memory to sort them; its own limit is 1 GB
_OPEN_FILES = 1200  # TFDS sorts on disk with 1,000 files, which are open at once
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def prepare(
    builder_class: type[tfds.core.DatasetBuilder],
    config: tfds.core.BuilderConfig,
    data_dir: Path,
    manual_dir: Path | None = None,
    beam_options: Any = None,
) -> tfds.core.DatasetBuilder:
    """The builder of the data set in ``data_dir``, built from ``manual_dir`` where it is not there yet.

    ``beam_options``, Beam's PipelineOptions, make it a Beam pipeline: the same records, and the same errors.
    Of two processes that build the same data set at once, the slower one takes the other's copy.

    Raises:
        MissingDataError: the scans are not in ``manual_dir``. DataError: unusable scans, or ``data_dir`` cannot be
        written (disk full, no permission); nothing is left of the attempt.
    """
    download = tfds.download.DownloadConfig(
        manual_dir=manual_dir,
        try_download_gcs=False,
        compute_stats=tfds.download.ComputeStatsMode.SKIP,
        beam_options=beam_options,
    )
    absent = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    try:
        with quiet():
            builder = builder_class(config=config, data_dir=os.fspath(data_dir))
            if is_prepared(builder.data_dir):
                return builder
            with _alone_or_with_others(data_dir / builder_class.name), _sorted_on_disk():
                _build(builder, download)
            # made anew: only then does TFDS read what the other process has written
            return builder_class(config=config, data_dir=os.fspath(data_dir))
    except MissingDataError as error:
        raise MissingDataError(f"{error}\nLooked in: {manual_dir}") from None
    except DataError:
        raise
    except Exception as error:
        reason = _system_error(error)
        if reason is None:
            raise
        raise _cannot_write(builder_class.name, data_dir, reason) from error
    finally:
        _remove_empty(data_dir, builder_class.name, config.name)
        for folder in absent:
            with contextlib.suppress(OSError):
                folder.rmdir()


def is_prepared(folder: str | os.PathLike) -> bool:
    """Whether a version folder of TFDS holds a whole data set: it gets its name when everything is written."""
    return (Path(folder) / "dataset_info.json").is_file()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TFDS from logging, announcing a download (there is none) and drawing bars (the builder draws one)."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _alone_or_with_others(folder: Path) -> Iterator[None]:
    """Remove what killed preparations left in ``folder``, unless another one is at work there; then run the block.

    Each preparation holds a shared lock of the folder, which the system takes back when the process ends, however it
    ends. Where the lock can be had alone, nobody is at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # somebody is at work, or this file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(f"*/{_INCOMPLETE}*"):
                shutil.rmtree(left, ignore_errors=True)
                with contextlib.suppress(OSError):
                    left.parent.rmdir()
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _sorted_on_disk() -> Iterator[None]:
    """TFDS sorts the records of a split on disk and not in memory, so that the memory does not grow with their number.

    The process may then have as many open files as this needs. Where the system does not allow them, TFDS's own limit
    stays.
    """
    shuffle: Any = importlib.import_module("tensorflow_datasets.core.shuffle")
    limit = shuffle.MAX_MEM_BUFFER_SIZE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _OPEN_FILES:
        if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, hard))
        shuffle.MAX_MEM_BUFFER_SIZE = _IN_MEMORY
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = limit


def _build(builder: tfds.core.DatasetBuilder, download: tfds.download.DownloadConfig) -> None:
    try:
        builder.download_and_prepare(download_config=download)
    except OSError:
        if not is_prepared(builder.data_dir):  # else the last step, the renaming, came second
            raise


def _remove_empty(data_dir: Path, name: str, config: str) -> None:
    """Folders in which nothing was written after all; TFDS removes its unfinished files itself."""
    # downloads: made by TFDS also where nothing is downloaded
    for folder in (data_dir / "downloads" / "extracted", data_dir / "downloads", data_dir / name / config):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        if {path.name for path in (data_dir / name).iterdir()} <= {".config"}:
            shutil.rmtree(data_dir / name)


def _system_error(error: BaseException | None) -> Exception | None:
    """What the system said: TFDS raises some errors again as others, without their number, with the first as cause."""
    found = None
    while error is not None:
        found = error if isinstance(error, OSError | tf.errors.OpError) else found
        error = error.__cause__
    return found


def _cannot_write(name: str, data_dir: Path, error: Exception) -> DataError:
    number = getattr(error, "errno", None)
    start = f"{name}: cannot prepare the data set in {data_dir}"
    if number in _FULL or isinstance(error, tf.errors.ResourceExhaustedError):
        return DataError(f"{start}: no space left; free some, or keep prepared data in another folder")
    file = getattr(error, "filename", None) or data_dir
    if number in _FORBIDDEN or isinstance(error, tf.errors.PermissionDeniedError):
        return DataError(f"{start}: no permission for {file}; change it, or keep prepared data in another folder")
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{start} ({reason})")
