"""Damaged scans, listings and class names: a result, or one line, soon and in little memory.

Everything is drawn from a seed: a failing case is repeated with its number. The limits are for one case.
"""

import functools
import gzip
import struct
import time
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.listing import check_listing, read_listing
from deepatlas_tf.scans import nifti
from deepatlas_tf.scans.class_names import read_dataset_json, read_label_csv
from deepatlas_tf.types import DataError

pytestmark = pytest.mark.slow
SECONDS, BYTES = 10, 2**31
SHAPE = (7, 6, 5)
FIELDS = {  # of a NIfTI-1 header: format and place
    "sizeof_hdr": ("<i", 0),
    "dim": ("<8h", 40),
    "datatype": ("<h", 70),
    "bitpix": ("<h", 72),
    "pixdim": ("<8f", 76),
    "vox_offset": ("<f", 108),
    "scl_slope": ("<f", 112),
    "scl_inter": ("<f", 116),
    "xyzt_units": ("<B", 123),
    "qform_code": ("<h", 252),
    "sform_code": ("<h", 254),
    "quatern": ("<6f", 256),
    "srow": ("<12f", 280),
    "magic": ("<4B", 344),
    "extension": ("<4B", 348),
}
EXTREME = {
    "i": [0, -1, 1, 348, 540, 2**31 - 1],
    "h": [0, -1, 1, 2, 4, 8, 16, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 32767, -32768],
    "B": [0, 1, 2, 3, 7, 10, 110, 255],
    "f": [0, -0.0, 1, -1, 0.5, 1e-6, 1e-38, 1e38, 3e9, 352, 100, 1000, np.nan, np.inf, -np.inf],
}


def result_or_one_line(case, call):
    """``call`` returns or raises DataError with one line, within the limits."""
    tracemalloc.start()
    start = time.process_time()
    try:
        call()
    except DataError as error:
        text = str(error)
        assert "\n" not in text.partition("\nName your scans")[0] and len(text) < 10_000, f"case {case}: {text}"
    except Exception as error:
        raise AssertionError(f"case {case}: {type(error).__name__}: {error}") from error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - start < SECONDS and peak < BYTES, f"case {case}"


def base_file(tmp_path, rng):
    """The bytes of a NIfTI file of one of many types, not compressed."""
    dtype = rng.choice(["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
    make = nib.Nifti1Image if rng.random() < 0.8 else nib.Nifti2Image
    volume = rng.integers(0, 100, SHAPE).astype(dtype)
    path = tmp_path / "base.nii"
    nib.save(make(volume, np.diag([1.0, 2.0, 1.5, 1.0]), dtype=volume.dtype), path)
    return bytearray(path.read_bytes())


def with_extreme_fields(data, rng):
    for name in rng.choice(list(FIELDS), rng.integers(1, 4), replace=False):
        form, place = FIELDS[name]
        n = struct.calcsize(form) // struct.calcsize(form[-1])
        values = list(struct.unpack_from(form, data, place))
        for k in rng.choice(n, rng.integers(1, n + 1), replace=False):
            values[k] = EXTREME[form[-1]][rng.integers(len(EXTREME[form[-1]]))]
        struct.pack_into(form, data, place, *values)
    return data


def with_flipped_bits(data, rng):
    end = len(data) if rng.random() < 0.3 else min(len(data), 540)
    for place in rng.integers(0, end, rng.integers(1, 20)):
        data[place] ^= 1 << rng.integers(8)
    return data


def cut_or_longer(data, rng):
    return data[: rng.integers(0, len(data))] if rng.random() < 0.7 else data + bytes(int(rng.integers(1, 10**6)))


@pytest.mark.parametrize("part", range(4))
def test_damaged_scans(tmp_path, part):
    changes = (with_extreme_fields, with_extreme_fields, with_flipped_bits, cut_or_longer)
    for case in range(100 * part, 100 * part + 100):
        rng = np.random.default_rng(case)
        data = changes[case % len(changes)](base_file(tmp_path, rng), rng)
        compressed = case % 3 == 0
        path = tmp_path / ("scan.nii.gz" if compressed else "scan.nii")
        data = bytearray(gzip.compress(bytes(data))) if compressed else data
        if compressed and rng.random() < 0.3:
            data = with_flipped_bits(data, rng)
        path.write_bytes(data)
        for read in (nifti.read_image, nifti.read_label):
            for n_axes in (3, 2):
                result_or_one_line(case, functools.partial(read, path, "s1", n_axes))
        result_or_one_line(case, functools.partial(nifti.count_axes, path, "s1"))
        result_or_one_line(case, functools.partial(nifti.form_problem, path))


CSV = 'subject,image,label,split,domain,labelled_classes\ns1,a.nii,b.nii,train,MR,femur\ns2,"a.nii",,test,CT,1;2\n'
LABELS = "number,name\n0,background\n1,femur\n2,tibia\n"
JSON = '{"name": "x", "labels": {"background": 0, "femur": 1, "tibia": "2"}}'
TOKENS = [",", ";", "\t", '"', "\n", "\r", "\0", "$", "\\", "../", "/", "~", "-1", "9" * 5000, "1e999", "NaN", "null"]
TOKENS += ["[" * 5000, '{"a":' * 5000, "\ufeff", "\ud800", "\\ud800", "é", "x" * 10000, "\x1b[2J", "true", "[1, 2]"]


def spoilt(text, rng):
    for _ in range(rng.integers(1, 5)):
        place, token = int(rng.integers(len(text) + 1)), TOKENS[rng.integers(len(TOKENS))]
        text = text[:place] + token + text[place + int(rng.integers(0, 6)) :]
    return text.encode("utf-8", "surrogatepass")


def test_damaged_listings(tmp_path):
    for name in ("a.nii", "b.nii"):
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.eye(4)), tmp_path / name)
    for case in range(300):
        rng = np.random.default_rng(case)
        (tmp_path / "scans.csv").write_bytes(spoilt(CSV, rng))
        (tmp_path / "labels.csv").write_bytes(spoilt(LABELS, rng))
        (tmp_path / "dataset.json").write_bytes(spoilt(JSON, rng))
        result_or_one_line(case, lambda: check_listing(read_listing(tmp_path / "scans.csv")))
        result_or_one_line(case, lambda: read_label_csv(tmp_path / "labels.csv"))
        result_or_one_line(case, lambda: read_dataset_json(tmp_path / "dataset.json"))
