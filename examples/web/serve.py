"""Serve the page, a bundle and a vocabulary on this machine, or write them to a folder for any static host.

    python serve.py BUNDLE [VOCABULARY.safetensors] [--port 8000]
    python serve.py BUNDLE [VOCABULARY.safetensors] --write SITE

Half of the page is that of `t2d serve`, in t2d_runtime/serving/page; both read the same files.
"""

import argparse
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PAGE = Path(__file__).resolve().parent
SHARED = PAGE.parents[1] / "t2d_runtime" / "serving" / "page"

SHARED_FILES = ("camera.js", "errors.js", "page.js", "palette.js", "picture.js", "style.css", "words.js")
OWN_FILES = ("app.js", "engine.js", "index.html", "offline.js", "text-encoder.js", "vocabulary-list.js", "worker.js")
OWN_FOLDERS = ("onnxruntime", "t2d")
VOCABULARY = "vocabulary.safetensors"


def site_files(bundle: Path, vocabulary: Path | None) -> dict[str, Path]:
    """The files of the site by their address, relative to it."""
    files = {name: SHARED / name for name in SHARED_FILES} | {name: PAGE / name for name in OWN_FILES}
    for folder in OWN_FOLDERS:
        for suffix in ("*.js", "*.mjs", "*.wasm"):
            files |= {f"{folder}/{path.name}": path for path in (PAGE / folder).glob(suffix)}
    for path in bundle.rglob("*"):
        # Graphs of other engines and whole segmenters are not for pages.
        if path.is_file() and path.name != "segmenter.onnx" and "engines" not in path.relative_to(bundle).parts:
            files[f"bundle/{path.relative_to(bundle).as_posix()}"] = path
    if vocabulary is not None:
        files[VOCABULARY] = vocabulary
    return files


class Handler(SimpleHTTPRequestHandler):
    """The files of the site, with the headers that let pages use threads."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def __init__(self, *args, bundle: Path, vocabulary: Path | None, isolated: bool, **kwargs) -> None:
        self.bundle, self.vocabulary, self.isolated = bundle, vocabulary, isolated
        super().__init__(*args, directory=str(PAGE), **kwargs)

    def translate_path(self, path: str) -> str:
        name = unquote(urlsplit(path).path).removeprefix("/") or "index.html"
        # Looked up each time: a bundle may be exported anew while the page is open.
        return str(site_files(self.bundle, self.vocabulary).get(name, PAGE / "no such file"))

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # ask again each time: the bundle may have been exported anew
        super().end_headers()

    def log_message(self, *args) -> None:
        """Quiet: the page says what it could not load."""


def write_site(folder: Path, files: dict[str, Path]) -> None:
    """Copy the files to a folder that does not exist yet, whole or not at all."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name, path in files.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, part / name)
    part.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the page, or write it to a folder for any static host.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="written by 't2d-export bundle'")
    parser.add_argument("vocabulary", type=Path, nargs="?", help="written by 't2d classes': F.safetensors")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    parser.add_argument("--no-isolation", action="store_true", help="without the two headers: one thread at first")
    parser.add_argument("--write", type=Path, metavar="SITE", help="write the site to this new folder instead")
    args = parser.parse_args()
    for path in (args.bundle / "manifest.json", args.vocabulary, PAGE / "onnxruntime"):
        if path is not None and not path.exists():
            hint = "; run 'npm ci' in this folder" if path.parent == PAGE else ""
            parser.error(f"{path}: no such file{hint}")
    if args.write:
        if args.write.exists():
            parser.error(f"{args.write} exists already, expected a new folder")
        write_site(args.write, site_files(args.bundle, args.vocabulary))
        print(args.write)
        return
    handler = partial(Handler, bundle=args.bundle, vocabulary=args.vocabulary, isolated=not args.no_isolation)
    with ThreadingHTTPServer(("127.0.0.1", args.port), handler) as server:
        print(f"http://localhost:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
