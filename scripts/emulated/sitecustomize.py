"""Make `sys.executable` the emulated Python, so that the processes that tests start are emulated too.

`scripts/narrow` puts this folder on PYTHONPATH: every Python process imports it as it starts.
"""

import os
import sys

sys.executable = os.environ["T2D_EMULATED_PYTHON"]
