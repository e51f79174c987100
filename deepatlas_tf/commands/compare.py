"""Compare the methods of one or several runs: one table, and statistical tests of their differences."""

import argparse
from pathlib import Path

EXAMPLES = """\
  deepatlas compare runs/hippo5 --test
  deepatlas compare runs/hippo1 runs/hippo5 runs/hippo20
  deepatlas compare runs/seed0 runs/seed1 --test --measure hd95_mm -o tests.csv
"""


def add_arguments(compare: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of an evaluated run")
    compare.add_argument("--test", action="store_true", help="test each two methods, with p adjusted for their number")
    measures = ["dice", "hd95_mm", "assd_mm", "hausdorff_mm"]
    compare.add_argument("--measure", default="dice", choices=measures, help="that is tested")
    compare.add_argument("-o", "--output", type=Path, metavar="CSV", help="write the tests there too")
    compare.add_argument("--overwrite", action="store_true", help="replace CSV if it is there")


def run(args: argparse.Namespace) -> None:
    """Print the table and the tests."""
    from deepatlas_tf.apply.files import check_outputs, writing
    from deepatlas_tf.evaluation.compare import case_means, compare_methods, summaries
    from deepatlas_tf.evaluation.summary import comparison_table
    from deepatlas_tf.runs.files import write_rows
    from deepatlas_tf.runs.folder import TASKS

    if args.output:
        check_outputs([args.output], args.overwrite)
    print(comparison_table(summaries(args.runs)))
    rows = []
    for task in TASKS if args.test or args.output else ():
        found = compare_methods(case_means(args.runs, task, args.measure))
        rows += [{"task": task, "measure": args.measure, **row} for row in found]
        if found:
            print(f"\n{task}, {args.measure}: mean difference, p, and q (p adjusted: Benjamini-Hochberg)")
        for row in found:
            numbers = f"{row['difference']:+.4f}  p {row['p']:.2g}  q {row['q']:.2g}"
            print(f"  {row['first']} - {row['second']}: {numbers}  ({row['test']}, n = {row['n']})")
    if args.output:
        with writing(args.output) as temporary:
            write_rows(temporary, rows)
