"""`python -m t2d_runtime` is `t2d`."""

from __future__ import annotations

import sys

from t2d_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
