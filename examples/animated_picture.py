"""Turn a short video into an animated WebP picture, which web pages and READMEs show.

python examples/animated_picture.py VIDEO PICTURE.webp [QUALITY]
"""

import sys
from pathlib import Path

import av


def main(video: Path, picture: Path, quality: int = 60) -> None:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        pause_ms = round(1000 / (stream.average_rate or 25))
        first, *others = (frame.to_image() for frame in container.decode(stream))
    first.save(picture, save_all=True, append_images=others, duration=pause_ms, loop=0, quality=quality, method=6)
    print(f"{picture}: {1 + len(others)} frames, {picture.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
