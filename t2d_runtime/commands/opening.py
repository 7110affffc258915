"""Opening the bundle and the words that a command line names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from t2d_runtime.errors import OptionError
from t2d_runtime.storage.kinds import is_file
from t2d_runtime.storage.reading import read_text_file

if TYPE_CHECKING:
    from t2d_runtime.bundle.manifest import Manifest
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.class_list import ClassList
    from t2d_runtime.words.vocabulary import ClassEmbeddings


def open_with_words(args: argparse.Namespace) -> tuple[Segmenter, ClassEmbeddings]:
    """The bundle and the words that the arguments name. Both encoders load at once where the words are not encoded.

    Words that are not valid are told before anything is loaded.
    """
    listed = listed_classes(args)
    segmenter = open_segmenter(args, load_text_encoder=listed is not None)
    return segmenter, open_classes(args, segmenter, listed)


def open_segmenter(args: argparse.Namespace, *, load_text_encoder: bool = False) -> Segmenter:
    """The bundle on the engine that the arguments name."""
    from t2d_runtime.segmenter import Segmenter

    return Segmenter.open(
        args.bundle,
        backend=args.backend,
        precision=args.precision,
        num_threads=args.threads,
        postprocess=getattr(args, "postprocess", "host"),
        load_text_encoder=load_text_encoder,
    )


def open_classes(args: argparse.Namespace, segmenter: Segmenter, listed: ClassList | None = None) -> ClassEmbeddings:
    """The words that the arguments name, encoded, with a progress bar; or a vocabulary from its file.

    `listed`: what `listed_classes` gave, where that was called before.
    """
    from tqdm import tqdm

    from t2d_runtime.words.vocabulary import ClassEmbeddings

    classes, templates = named_classes(args, segmenter.manifest, listed)
    if isinstance(classes, ClassEmbeddings):
        return classes
    with tqdm(total=len(classes.all_phrases), unit="phrase", desc="encoding words", disable=None, leave=False) as bar:

        def advance(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        return segmenter.encode_classes(classes, templates, progress=advance)


def listed_classes(args: argparse.Namespace) -> ClassList | None:
    """The words that --classes or --classes-file name; None without either. Raises ClassNamesError and OptionError."""
    from t2d_runtime.words.class_files import parse_words, read_class_file

    if args.classes is not None:
        return parse_words(args.classes)
    return None if args.classes_file is None else read_class_file(args.classes_file)


def named_classes(
    args: argparse.Namespace, manifest: Manifest, listed: ClassList | None = None
) -> tuple[ClassList, tuple[str, ...]] | tuple[ClassEmbeddings, tuple[()]]:
    """The words that the arguments name and the templates for them; or a vocabulary from its file, without templates.

    `listed` as for `open_classes`. Raises ClassNamesError, VocabularyError and OptionError.
    """
    from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
    from t2d_runtime.words.text import check_templates
    from t2d_runtime.words.vocabulary import ClassEmbeddings

    if getattr(args, "vocabulary", None) is not None:
        if args.prompts is not None:
            raise OptionError("--prompts has no effect on the encoded words of a --vocabulary; give one of the two")
        return ClassEmbeddings.load(args.vocabulary), ()
    classes = listed_classes(args) if listed is None else listed
    if classes is None:
        raise OptionError("no classes; expected --classes, --classes-file or --vocabulary")
    prompts = args.prompts or DEFAULT_PROMPTS
    sets = manifest.prompt_sets
    if prompts in sets:
        return classes, sets[prompts]
    if not is_file(Path(prompts)):
        raise OptionError(
            f"--prompts {prompts}: no such file, nor a prompt set of the bundle; expected {', '.join(sets)}, "
            "or a file of templates with {}, one a line, such as 'a photo of a {}.'"
        )
    text = read_text_file(Path(prompts), "a UTF-8 text file with one template a line", OptionError)
    return classes, check_templates(line for line in text.splitlines() if line.strip())
