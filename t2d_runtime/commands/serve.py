"""`t2d serve`: a bundle behind HTTP, with a page to try it."""

from __future__ import annotations

import argparse
import gc
from typing import TYPE_CHECKING

from t2d_runtime.commands.arguments import add_bundle, add_engine_options, add_postprocess, add_words, named_path
from t2d_runtime.commands.opening import named_classes, open_classes, open_segmenter
from t2d_runtime.commands.terminal import flush_output, say
from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.serving.known_words import KnownWords
    from t2d_runtime.serving.limits import Limits
    from t2d_runtime.words.vocabulary import ClassEmbeddings

DEFAULT_PORT = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="default: 127.0.0.1, this machine alone")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="P", help="default: 8000; 0 takes a free one")
    parser.add_argument(
        "--source",
        metavar="S",
        help="also show a live source: a camera's number, an rtsp:// or http(s):// address, or a video file; with the "
        "words that are looked for at first",
    )
    add_words(parser, required=False)
    parser.add_argument(
        "--vocabulary",
        dest="known_words",
        type=named_path,
        metavar="F",
        help="answer these words alone, encoded by 't2d classes': .npz or .safetensors; needs no text encoder",
    )
    parser.set_defaults(prompts=None)
    _add_access_options(parser)
    _add_limits(parser)
    add_engine_options(parser)
    add_postprocess(parser)


def _add_access_options(parser: argparse.ArgumentParser) -> None:
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument(
        "--key-file", type=named_path, metavar="F", help="API keys, one a line; or one in the variable T2D_SERVE_KEY"
    )
    keys.add_argument("--no-key", action="store_true", help="let other machines in without a key")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which clients reach the server, as masks.example.org; may be given again",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="a site whose pages may call, as https://www.example.org; may be given again",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queue", type=int, metavar="N", help="requests that wait or are in work; default: 64")
    parser.add_argument(
        "--encoders",
        type=int,
        metavar="N",
        help="pictures encoded at a time, each with its share of the cores; default: 1",
    )
    parser.add_argument("--deadline", type=float, metavar="S", help="seconds from a request to its answer; default: 60")
    parser.add_argument("--max-body-mib", type=float, metavar="N", help="largest request; default: 32")
    parser.add_argument("--max-pixels", type=int, metavar="N", help="largest picture; default: 50000000")
    parser.add_argument("--max-phrases", type=int, metavar="N", help="most phrases of a request; default: 200")
    parser.add_argument(
        "--images-mib", type=float, metavar="N", help="encoded pictures kept for more questions; default: 512"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it; the requests that came before are answered."""
    from t2d_runtime.device.install import needs_extra
    from t2d_runtime.device.threads import available_cores
    from t2d_runtime.serving.hosts import Hosts
    from t2d_runtime.serving.keys import Keys

    with needs_extra("serve"):
        from t2d_runtime.serving.application import application_of
        from t2d_runtime.serving.live_source import LiveSource
        from t2d_runtime.serving.server import Server, address_of, listening_socket
        from t2d_runtime.serving.service import Service
    _check_source(args)
    limits = _limits(args)
    if args.threads is None and limits.encoders > 1:
        args.threads = max(1, available_cores() // limits.encoders)
    keys = Keys(_keys(args))
    hosts = Hosts.of(args.host, args.allow_host, args.allow_origin)
    with listening_socket(args.host, args.port) as bound:
        address = address_of(bound)
        source = None if args.source is None else LiveSource.open(args.source)
        segmenter = open_segmenter(args)
        known = _known_words(args, segmenter, limits)
        live = None if source is None else (source, _first_words(args, segmenter, known))
        service = Service(segmenter, limits, live, known)
        service.warm_up()
        application = application_of(service, hosts=hosts, keys=keys)
        model = f"{segmenter.manifest.model.backbone}, {segmenter.backend_name} in {segmenter.precision}"

        def begin() -> None:
            # A collection that looks at everything that was loaded stops all requests for a tenth of a second or more.
            gc.collect()
            gc.freeze()
            say(f"{address} serves {args.bundle}: {model}")
            if source is not None:
                say(f"{address}watch shows {source.name}")
            flush_output()  # into a log or a pipe Python would write it at the end

        server = Server(application, limits, on_start=begin, on_end=service.end_live)
        try:
            server.run(sockets=[bound])
        except (KeyboardInterrupt, SystemExit):
            if not server.ended:
                raise
    return 0


def _known_words(args: argparse.Namespace, segmenter: Segmenter, limits: Limits) -> KnownWords | None:
    """The words of --vocabulary, if that is given.

    Raises VocabularyError, OptionError, and BundleNotFoundError where neither they nor a text encoder are there.
    """
    from t2d_runtime.errors import BundleNotFoundError
    from t2d_runtime.serving.known_words import KnownWords
    from t2d_runtime.words.vocabulary import ClassEmbeddings

    if args.known_words is not None:
        return KnownWords(ClassEmbeddings.load(args.known_words), limits.phrases)
    try:
        segmenter.encode_classes(["thing"])
    except BundleNotFoundError as error:
        raise BundleNotFoundError(f"{error}; t2d serve takes a vocabulary with --vocabulary F") from error
    return None


def _first_words(args: argparse.Namespace, segmenter: Segmenter, known: KnownWords | None) -> ClassEmbeddings:
    """The words that are looked for at first in the live source: those that are named, or the whole vocabulary."""
    from t2d_runtime.words.vocabulary import ClassEmbeddings

    if known is None:
        return open_classes(args, segmenter)
    if args.classes is None and args.classes_file is None:
        return known.vocabulary
    classes, _ = named_classes(args, segmenter.manifest)
    return classes if isinstance(classes, ClassEmbeddings) else known.embeddings(classes)


def _check_source(args: argparse.Namespace) -> None:
    """Raises OptionError for a source without words, and for words without a source."""
    words = next((name for name in ("classes", "classes_file") if getattr(args, name) is not None), None)
    if args.source is not None and words is None and args.known_words is None:
        raise OptionError(
            '--source needs the words that are looked for at first: add --classes "cat,sofa", or a --vocabulary'
        )
    if args.source is None and words is not None:
        option = f"--{words.replace('_', '-')}"
        raise OptionError(f"{option} has no effect without --source; clients send words with their pictures")


def _keys(args: argparse.Namespace) -> tuple[str, ...]:
    """The keys of the command line and the environment. Raises OptionError where a key is needed, or has no effect."""
    from t2d_runtime.serving.hosts import is_loopback
    from t2d_runtime.serving.keys import VARIABLE, read_keys

    keys = read_keys(args.key_file)
    if args.no_key and keys:
        raise OptionError(f"--no-key is given, and a key in {VARIABLE}; leave one of them out")
    if args.no_key and is_loopback(args.host):
        raise OptionError(f"--no-key has no effect on {args.host}, which needs no key; leave it out")
    if not (keys or args.no_key or is_loopback(args.host)):
        raise OptionError(
            f"--host {args.host} lets other machines in: give --key-file F, or a key in the variable {VARIABLE}, or "
            "--no-key where no key is wanted"
        )
    return keys


def _limits(args: argparse.Namespace) -> Limits:
    """The limits of the command line. Raises OptionError for one that is not above 0."""
    from t2d_runtime.serving.limits import MIB, Limits

    given = {
        "queue": ("--queue", args.queue, 1),
        "encoders": ("--encoders", args.encoders, 1),
        "deadline_s": ("--deadline", args.deadline, 1),
        "body_bytes": ("--max-body-mib", args.max_body_mib, MIB),
        "pixels": ("--max-pixels", args.max_pixels, 1),
        "phrases": ("--max-phrases", args.max_phrases, 1),
        "images_bytes": ("--images-mib", args.images_mib, MIB),
    }
    chosen = {}
    for name, (option, value, unit) in given.items():
        if value is None:
            continue
        if not 0 < value < float("inf"):
            raise OptionError(f"{option} is {value}, expected a number above 0")
        chosen[name] = value if unit == 1 else int(value * unit)
    return Limits(**chosen)
