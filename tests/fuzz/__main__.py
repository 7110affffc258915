"""Damaged inputs of every kind: python -m tests.fuzz [--inputs N] [--seed S] [--kinds images,manifests,...].

Each input has to give a result or one of the project's own errors, within ten seconds and without a word on standard
error but libtiff's. Prints what did not and exits with status 1 then. `--kinds images --seed S --only INDEX` repeats
one input.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from t2d_runtime.commands.argument_parser import ArgumentParser
from tests.fuzz.campaign import campaign, run_input, summary, work
from tests.fuzz.kinds import KINDS

BUNDLES = Path(__file__).resolve().parents[2] / "build" / "test-bundles"
"""Where the tests leave the small model's bundle."""


def main(arguments: list[str]) -> int:
    """Run the campaign that the command line asks for."""
    if arguments[:1] == ["--work"]:
        kind, seed, start, stop, bundle = arguments[1:]
        work(kind, int(seed), int(start), int(stop), Path(bundle))
        return 0
    parser = ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs in all; half of them pictures (20000)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other inputs (0)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of {', '.join(KINDS)} (all)")
    parser.add_argument("--only", type=int, help="the index of one input, to be repeated in this process")
    parser.add_argument("--bundle", type=Path, help="a bundle to be damaged (the one that the tests exported)")
    args = parser.parse_args(arguments)
    kinds = args.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"unknown kinds {unknown}, expected some of {list(KINDS)}")
    bundle = args.bundle or max(BUNDLES.glob("*/manifest.json"), default=BUNDLES / "none" / "manifest.json").parent
    if not (bundle / "manifest.json").is_file():
        parser.error(f"{bundle} is no bundle; run the tests once, which export one, or give --bundle")
    if args.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(run_input(kinds[0], args.seed, args.only, Path(folder), bundle))
        return 0
    return _run(kinds, args.inputs, args.seed, bundle)


def _run(kinds: list[str], inputs: int, seed: int, bundle: Path) -> int:
    others = [kind for kind in kinds if kind != "images"]
    half = inputs // 2 if "images" in kinds and others else inputs if "images" in kinds else 0
    counts = {"images": half} if half else {}
    for number, kind in enumerate(others):
        rest = inputs - half
        counts[kind] = rest // len(others) + (number < rest % len(others))
    findings = 0
    for kind, count in counts.items():
        outcomes: Counter[str] = Counter()
        for outcome in campaign(kind, seed, count, bundle):
            outcomes[outcome.status] += 1
            if outcome.is_finding:
                findings += 1
                print(f"{kind}, seed {seed}, input {outcome.index}: {outcome.status}\n{outcome.detail}", flush=True)
        print(f"{kind}: {sum(outcomes.values())} inputs with seed {seed}: {summary(outcomes)}", flush=True)
    print(f"{findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
