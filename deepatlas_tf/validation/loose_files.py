"""A folder that holds the NIfTI files of the scans itself, for validation only: which is the label map of which."""

import re
from pathlib import Path

from deepatlas_tf.datasets.listing import ListedScan

LABEL_WORD = re.compile(r"(^|[_.-])(labels?|seg|dseg|segmentation|mask|masks|labelmap)(?=$|[_.-])", re.IGNORECASE)
LAYOUT = "to be validated only, scans may lie in it as NAME.nii.gz with NAME_label.nii.gz (or labels, seg, mask)"


def loose_scans(folder: Path) -> list[ListedScan]:
    """Label maps are known by a word in their names; what is left of the name is the beginning of the image's."""
    stems = {p.name.removesuffix(".gz").removesuffix(".nii"): p for p in sorted(folder.glob("*.nii*"))}
    stems = {stem: path for stem, path in stems.items() if not stem.startswith(".")}
    maps = {LABEL_WORD.sub("", stem): stem for stem in stems if LABEL_WORD.search(stem)}
    images = [stem for stem in stems if not LABEL_WORD.search(stem)]
    scans, used = [], set()
    for stem in images:
        keys = [key for key in maps if key and re.match(rf"{re.escape(key)}($|[_.-])", stem)]
        key = max(keys, key=len, default=None)
        alone = key is not None and sum(other == key or other.startswith(f"{key}_") for other in images) == 1
        used.add(key)
        label = None if key is None else stems[maps[key]]
        scans.append(ListedScan(key if alone else stem, stems[stem], label, "", "", (), stems[stem].name))
    orphans = [key for key in maps if key not in used]
    return scans + [ListedScan(key, None, stems[maps[key]], "", "", (), stems[maps[key]].name) for key in orphans]
