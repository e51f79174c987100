"""What removing specks does to the label maps of a stage of full resolution, on the scans' own grids.

    python benchmarks/specks.py RUN brains_short --split test --manual-dir DATA

For each labelled scan of the split, and each share below which a component is a speck: the mean Dice and HD95 (mm) over
the classes. 0 is the label map as the network gives it. Which classes are cleaned is found with the label maps that the
run was trained with. Written to ``benchmarks/results/specks/NAME.json``.
"""

import argparse
from pathlib import Path

import numpy as np
from machine import machine
from nibabel.affines import voxel_sizes
from turns import commit

from deepatlas_tf.keras_stack import versions
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.metrics.surface import surface_metrics
from deepatlas_tf.run import dataset_of_run, load_fine
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.runs.own_grid import segment_to_source
from deepatlas_tf.scans.components import SPECK, classes_without_specks, remove_specks
from deepatlas_tf.scans.grid import GridTransform

RESULTS = Path(__file__).parent / "results" / "specks"
SHARES = (0.0, 0.02, 0.05, 0.1, SPECK, 0.3, 0.5)


def measure(run: Path, split: str, data_dir: Path | None, manual_dir: Path | None) -> list[dict]:
    """A row for each scan and share."""
    model, dataset = TrainedModel(run), dataset_of_run(run, data_dir, manual_dir)
    stage = model.full_resolution()
    if stage is None:
        raise SystemExit(f"error: {run} has no finished stage of full resolution")
    fine = load_fine(dataset, run, model.grid_of(stage).spacing, data_dir, manual_dir)
    used = model.folder.data()["used_labels"]
    true = [r["own_label"] for r in fine.records("train").as_numpy_iterator() if r["subject"].decode() in used]
    cleaned = {share: classes_without_specks(true, share) for share in SHARES}
    segment, size, rows = model.segmenter(stage), model.grid_of(stage).shape, []
    for record in fine.records(split).as_numpy_iterator():
        subject = record["subject"].decode()
        if subject in dataset.labelled[split]:
            rows += [{"subject": subject, **row} for row in _rows(record, segment, size, cleaned, fine)]
            print(subject, flush=True)
    return rows


def _rows(record, segment, size, cleaned, fine):
    source = record["source_affine"], tuple(int(n) for n in record["source_shape"])
    transform = GridTransform(*source, fine.shape, fine.spacing)
    found = segment_to_source(segment, record["image"], size, transform).label
    true, n_classes = record["own_label"].astype(np.int32), len(fine.class_names)
    spacing = voxel_sizes(record["source_affine"])
    for share, classes in cleaned.items():
        label = remove_specks(found, classes, share).astype(np.int32)
        distances = surface_metrics(label, true, n_classes, spacing)["hd95_mm"]
        means = [round(float(np.nanmean(values)), 4) for values in (dice(label, true, n_classes), distances)]
        yield {"share": share, "dice": means[0], "hd95_mm": means[1]}


def means(rows: list[dict]) -> dict[float, tuple[float, float]]:
    """share -> mean Dice and HD95 (mm) over the scans."""
    shares = dict.fromkeys(row["share"] for row in rows)
    return {
        share: tuple(
            float(np.mean([row[name] for row in rows if row["share"] == share])) for name in ("dice", "hd95_mm")
        )
        for share in shares
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run with --full-resolution")
    parser.add_argument("name", help="of the result")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test"])
    parser.add_argument("--data-dir", type=Path, help="as for deepatlas train")
    parser.add_argument("--manual-dir", type=Path, help="as for deepatlas train")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    args = parser.parse_args()
    rows = measure(args.run, args.split, args.data_dir, args.manual_dir)
    settings = TrainedModel(args.run).settings
    about = {"machine": machine(), "commit": commit(), "versions": versions(), "split": args.split}
    write_json(args.results / f"{args.name}.json", {**about, "experiment": settings, "rows": rows})
    for share, (overlap, distance) in means(rows).items():
        print(f"{share:g}: Dice {overlap:.3f}, HD95 {distance:.2f} mm")


if __name__ == "__main__":
    main()
