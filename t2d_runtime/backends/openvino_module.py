"""The module `openvino`, imported so that it reports nothing to its makers."""

from __future__ import annotations

import sys
from typing import Any

_TELEMETRY = "openvino_telemetry"
"""Package of OpenVINO's usage reports. Where it is missing, OpenVINO puts a class in its place that does nothing."""


def openvino_module() -> Any:
    """The module `openvino`.

    `import openvino` sends an event to Google Analytics, from a process that it forks, and keeps an identity of the
    user in the home folder, unless the user has forbidden it there; without a home folder it fails. So its telemetry
    package is hidden from Python during that import, and from that import alone. A module that the application
    imported before is taken as it is.
    """
    if "openvino" not in sys.modules and _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            import openvino
        finally:
            sys.modules.pop(_TELEMETRY, None)  # another thread may have imported too
    else:
        import openvino
    return openvino
