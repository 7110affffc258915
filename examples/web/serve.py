"""Serve the page, a bundle and a vocabulary on this machine, with the headers that let pages use threads.

    python serve.py BUNDLE VOCABULARY.safetensors [--port 8000]

For a real site any static server will do: copy this folder, the bundle's manifest.json and segmenter.onnx (and
image_encoder.onnx.data where there is one) as bundle/, and the vocabulary as vocabulary.safetensors.
"""

import argparse
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PAGE = Path(__file__).resolve().parent


class Handler(SimpleHTTPRequestHandler):
    """The files of the page, with the bundle at /bundle/ and the vocabulary at /vocabulary.safetensors."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def __init__(self, *args, bundle: Path, vocabulary: Path, isolated: bool, **kwargs) -> None:
        self.bundle, self.vocabulary, self.isolated = bundle, vocabulary, isolated
        super().__init__(*args, directory=str(PAGE), **kwargs)

    def translate_path(self, path: str) -> str:
        plain = unquote(urlsplit(path).path)
        if plain == "/vocabulary.safetensors":
            return str(self.vocabulary)
        if plain.startswith("/bundle/") and ".." not in plain:
            return str(self.bundle / plain.removeprefix("/bundle/"))
        return super().translate_path(path)

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # ask again each time: the bundle may have been exported anew
        super().end_headers()

    def log_message(self, *args) -> None:
        """Quiet: the page says what it could not load."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the page, a bundle and a vocabulary on this machine.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="written by 't2d-export bundle --fused'")
    parser.add_argument("vocabulary", type=Path, metavar="VOCABULARY", help="written by 't2d classes': F.safetensors")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    parser.add_argument("--no-isolation", action="store_true", help="without the two headers: one thread")
    args = parser.parse_args()
    for path in (args.bundle / "manifest.json", args.vocabulary, PAGE / "onnxruntime"):
        if not path.exists():
            hint = "; run 'npm ci' in this folder" if path.parent == PAGE else ""
            parser.error(f"{path}: no such file{hint}")
    handler = partial(Handler, bundle=args.bundle, vocabulary=args.vocabulary, isolated=not args.no_isolation)
    with ThreadingHTTPServer(("127.0.0.1", args.port), handler) as server:
        print(f"http://localhost:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
