"""`t2d selftest`: compare a bundle's stages on this machine with the reference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2d_runtime.commands.arguments import add_bundle, add_engine_options, add_json, add_postprocess
from t2d_runtime.commands.parity_table import print_precisions, print_verdict
from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.commands.terminal import complain, say, say_json
from t2d_runtime.errors import BackendError

if TYPE_CHECKING:
    from t2d_runtime.commands.self_tests import SelfTest

ALL = "all"
"""Every precision that the bundle holds and that runs here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser, or_all=True)
    add_postprocess(parser)
    add_json(parser, "the differences")


def run(args: argparse.Namespace) -> int:
    """Print every stage's verdict; the status is 1 where one is out of tolerance, or an engine fails."""
    from t2d_runtime.commands.self_tests import content_of

    precisions = _precisions_here(args) if args.precision == ALL else [args.precision]
    tests, failed = _run(args, precisions)
    if args.json:
        say_json(content_of(args.bundle, tests, failed))
    elif args.precision == ALL:
        print_precisions(args.bundle, tests)
    else:
        say(f"{args.bundle} in {tests[0].precision} on {tests[0].engine}")
        return print_verdict(tests[0].stages)
    return FAILED_CHECK if failed or not all(test.passed for test in tests) else 0


def _run(args: argparse.Namespace, precisions: Sequence[str]) -> tuple[list[SelfTest], int]:
    """The self-tests, and the number of engines that failed. Raises the last one's error where all did."""
    from t2d_runtime.commands.self_tests import self_test

    tests: list[SelfTest] = []
    for number, precision in enumerate(precisions):
        try:
            tests.append(
                self_test(
                    args.bundle,
                    backend=args.backend,
                    precision=precision,
                    num_threads=args.threads,
                    postprocess=args.postprocess,
                )
            )
        except BackendError as error:
            if not tests and number == len(precisions) - 1:
                raise
            complain(f"{precision}: {error}")
    return tests, len(precisions) - len(tests)


def _precisions_here(args: argparse.Namespace) -> list[str]:
    """Precisions that run here. Tells why the others do not; raises BackendError where none does."""
    from t2d_runtime.bundle.files import Bundle
    from t2d_runtime.bundle.from_hub import ALL as ALL_FILES
    from t2d_runtime.bundle.from_hub import local_bundle
    from t2d_runtime.proof.choice import open_for
    from t2d_runtime.proof.parity import PRECISIONS

    bundle = Bundle.open(local_bundle(args.bundle, ALL_FILES))
    here: list[str] = []
    for precision in PRECISIONS:
        backend = open_for(bundle, args.backend, precision, args.threads)
        if precision in backend.precisions(bundle):
            here.append(precision)
        else:
            reason = backend.refusal(precision) or f"{bundle.folder} has none for it"
            complain(f"{precision} does not run on {backend.name}: {reason}")
    if not here:
        raise BackendError(f"no precision of {bundle.folder} runs on {args.backend}; see 't2d doctor'")
    return here
