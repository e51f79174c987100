"""Kill training anywhere: SIGKILL at random moments, the same command again, and the end is that of a quiet run.

    python benchmarks/reliability/kill.py

Each method is trained once without interruption in its tiny form, then again in another folder, killed at random
moments of the time that the first run took; before that, a data set that both read is prepared under kills, too.
Compared are digests of the weights of all networks, losses, pseudo masks and tables. All data are synthetic. Written
to ``benchmarks/results/reliability/kill.json``; half an hour on two cores.
"""

import argparse
import random
import shutil
import tempfile
from pathlib import Path

from trained import METHODS, digests, train, train_and_kill, train_command

RESULTS = Path(__file__).parents[1] / "results" / "reliability"
MOST = 0.8  # of the time of the quiet run, by when a victim is killed


def killed(method: str, folder: Path, n_kills: int, seed: int) -> dict:
    """What became of a run that was killed ``n_kills`` times, beside a quiet one; both in ``folder``."""
    quiet, victim = (train_command(method, folder / f"data_{name}", folder / name) for name in ("quiet", "victim"))
    seconds = train(quiet)
    rng, kills = random.Random(seed), 0
    while not kills:  # a victim that was quicker than the quiet run may end before its first moment
        for name in ("data_victim", "victim"):
            shutil.rmtree(folder / name, ignore_errors=True)
        moments = [round(rng.uniform(0.0, MOST * seconds), 2) for _ in range(n_kills)]
        kills = train_and_kill(victim, moments)
    expected, found = digests(folder / "quiet"), digests(folder / "victim")
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return {
        "method": method,
        "kills": kills,
        "seconds_of_the_kills": moments[:kills],
        "seconds_uninterrupted": round(seconds, 1),
        "files_compared": len(expected),
        "different": different,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="of each method")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "kill.json")
    args = parser.parse_args()
    rows = []
    for index, method in enumerate(args.methods):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(killed(method, Path(folder), args.kills, args.seed + index))
        print(f"{method}: {rows[-1]['kills']} kills, different: {', '.join(rows[-1]['different']) or 'nothing'}")
    from results import write

    write(args.output, {"rows": rows, "kills": sum(row["kills"] for row in rows)})
    if any(row["different"] for row in rows):
        raise SystemExit("a resumed run differs from an uninterrupted one")


if __name__ == "__main__":
    main()
