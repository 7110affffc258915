"""Times every engine with a bundle, and says what `auto` and `fast` take for it here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2d_runtime.backends.registry import auto_order, open_candidates
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.bundle.from_hub import ALL, local_bundle
from t2d_runtime.commands.terminal import say
from t2d_runtime.device.cpu import cpu_name
from t2d_runtime.device.machine import machine_facts
from t2d_runtime.device.threads import available_cores, checked_num_threads
from t2d_runtime.proof.choice import AUTO, Order, order_for, subject_of
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.proof.speeds import PAIR_SECONDS, SPEEDS, Speeds, Subject, measure, remembered
from t2d_runtime.storage.cache import cache_folder

NAME_WIDTH = 20


def measure_engines(bundle_name: str | Path, num_threads: int | None) -> int:
    """Measure, print a table and remember it; 1 where an engine fails its self-test.

    Raises the errors of `Segmenter.open`.
    """
    num_threads = checked_num_threads(num_threads)
    bundle = Bundle.open(local_bundle(bundle_name, ALL))
    subject = subject_of(bundle, AUTO, num_threads)
    say(f"{bundle.manifest.model.backbone} on {cpu_name()}, {subject.threads} threads")
    say(
        f"about {PAIR_SECONDS:.0f} s for each engine and precision, twice for one that would replace the rule's; "
        "an engine that is new here runs its self-test first"
    )

    def report(name: str, outcome: str) -> None:
        say(f"  {name:<{NAME_WIDTH}} {outcome}")

    speeds = measure(subject, open_candidates(AUTO), thorough=True, report=report)
    say("")
    for line in (*_table(speeds), *_choices(speeds), *_memory(subject), *_load()):
        say(line)
    return 1 if speeds.left_out else 0


def order_here(bundle: Bundle) -> Order:
    """The order in which `auto` tries the engines for a bundle in float32."""
    return order_for("fp32", remembered(subject_of(bundle, AUTO, None)))


def choice_of(bundle: Bundle) -> dict[str, str]:
    """Lines of `t2d info` about the engine that `auto` takes for a bundle, by their titles."""
    subject = subject_of(bundle, AUTO, None)
    speeds = remembered(subject)
    order = order_for("fp32", speeds)
    advice = "'t2d doctor --measure BUNDLE' measures" if speeds is None else f"forget it by removing {subject.file}"
    return {"auto takes": f"{order.names[0]} in fp32, {order.reason}; {advice}"}


def remembered_speeds() -> int:
    """The number of bundles and conditions whose engines were measured here."""
    cache = cache_folder()
    return 0 if cache is None else len(list((cache / SPEEDS).glob("*.json")))


def remembered_choices() -> str:
    """A line of `t2d doctor` about the speeds remembered for all bundles."""
    cache, count = cache_folder(), remembered_speeds()
    if cache is None or not count:
        return "engine speeds: none measured, 'auto' goes by the processor; 't2d doctor --measure BUNDLE' measures"
    return f"engine speeds: {count} remembered in {cache / SPEEDS}; remove a file to forget it"


def _table(speeds: Speeds) -> Iterator[str]:
    """Pairs, the fastest first, against the rule's choice in float32."""
    names = [f"{name} fp32" for name in auto_order() if f"{name} fp32" in speeds.window_ms]
    usual = names[0] if names else next(iter(speeds.window_ms))
    yield f"  {'':<{NAME_WIDTH}} {'ms a window':>11}  times as fast as {usual}"
    for name, ms in speeds.window_ms.items():
        yield f"  {name:<{NAME_WIDTH}} {ms:>11.4g}  {speeds.window_ms[usual] / ms:.2f}"


def _choices(speeds: Speeds) -> Iterator[str]:
    """The backend of `auto` in each precision, and the choice of `fast`."""
    for precision in PRECISIONS:
        if speeds.of(precision):
            order = order_for(precision, speeds)
            yield f"--backend auto --precision {precision:<5} takes {order.names[0]}, {order.reason}"
    yield f"--backend auto --precision fast  takes {next(iter(speeds.window_ms))}"


def _memory(subject: Subject) -> Iterator[str]:
    if subject.file is not None and subject.file.is_file():
        yield f"remembered in {subject.file}; remove the file to forget it, measure again after an update of an engine"


def _load() -> Iterator[str]:
    load, cores = machine_facts().load_average, available_cores()
    if load is not None and load > cores:
        yield f"other programs were busy (load {load} on {cores} cores): measure again while nothing else runs"
