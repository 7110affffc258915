"""Ask a Triton server with a repository of `t2d triton`, over HTTP or gRPC, and save the picture with its labels.

python examples/triton_client.py photo.jpg "sky,person" --output labelled.png
python examples/triton_client.py photo.jpg "sky,person" --protocol grpc --url localhost:8001 --background

Needs `pip install "tritonclient[http,grpc]" pillow`, and nothing of t2d-runtime.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def segment(client: Any, module: Any, picture: bytes, words: Any, **options: Any) -> tuple[np.ndarray, list[str]]:
    """Labels (H,W) of an encoded picture, and their names.

    `module`: tritonclient.http or tritonclient.grpc, and `client` its InferenceServerClient. `words`: a list of class
    names, or an object of names and their phrases. `options`: background, threshold, refine, ...
    """
    tensors = []
    for name, content in (("encoded_image", picture), ("words_json", json.dumps(words).encode())):
        values = np.frombuffer(content, np.uint8)
        tensors.append(module.InferInput(name, [values.size], "UINT8"))
        tensors[-1].set_data_from_numpy(values)
    outputs = [module.InferRequestedOutput(name) for name in ("label_map", "class_names")]
    result = client.infer("t2d", tensors, outputs=outputs, parameters=options)
    return result.as_numpy("label_map"), json.loads(result.as_numpy("class_names").tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("words", help="separated by commas")
    parser.add_argument("--protocol", choices=["http", "grpc"], default="http")
    parser.add_argument("--url", help="default: localhost:8000 for HTTP, localhost:8001 for gRPC")
    parser.add_argument("--background", action="store_true", help="label 0 where no word fits")
    parser.add_argument("--output", type=Path, default=Path("labelled.png"))
    args = parser.parse_args()
    if args.protocol == "http":
        import tritonclient.http as module
    else:
        import tritonclient.grpc as module
    ports = {"http": 8000, "grpc": 8001}
    client = module.InferenceServerClient(args.url or f"localhost:{ports[args.protocol]}")
    words = [word.strip() for word in args.words.split(",")]
    labels, names = segment(client, module, args.picture.read_bytes(), words, background=args.background)
    for label, name in enumerate(names):
        print(f"{(labels == label).mean():7.1%} {name}")
    colours = np.random.default_rng(0).integers(0, 256, (len(names), 3), np.uint8)
    with Image.open(args.picture) as opened:
        picture = opened.convert("RGB").resize(labels.shape[::-1])
    Image.blend(picture, Image.fromarray(colours[labels]), 0.5).save(args.output)
    print(args.output)


if __name__ == "__main__":
    main()
