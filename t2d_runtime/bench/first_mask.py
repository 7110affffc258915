"""A small application, from its start to its first mask. `t2d bench` runs it to time a start.

`python -m t2d_runtime.bench.first_mask JOB`: JOB is JSON with the arguments of `Segmenter.open` ("open"), a path
("image"), the arguments of `encode_classes` or a "vocabulary" ("words"), and the options "window" and "refine".
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Print one line of JSON: the time of each step, and the peak memory over all of them."""
    job = json.loads(sys.argv[1])
    times = [time.perf_counter()]
    from t2d_runtime import Segmenter

    times.append(time.perf_counter())
    segmenter = Segmenter.open(**job["open"])
    times.append(time.perf_counter())
    if "vocabulary" in job["words"]:
        from t2d_runtime import ClassEmbeddings

        classes = ClassEmbeddings.load(job["words"]["vocabulary"])
    else:
        classes = segmenter.encode_classes(**job["words"])
    times.append(time.perf_counter())
    segmenter.segment(job["image"], classes, background=True, window=job["window"], refine=job["refine"])
    times.append(time.perf_counter())
    from t2d_runtime.device.machine import peak_resident_bytes

    steps = zip(("import_ms", "open_ms", "words_ms", "mask_ms"), times, times[1:], strict=False)
    figures = {name: (end - start) * 1e3 for name, start, end in steps}
    sys.stdout.write(json.dumps({**figures, "peak_bytes": peak_resident_bytes()}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
