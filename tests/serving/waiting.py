"""Waiting for something that other threads bring about."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .conftest import TIMEOUT_S


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(20 * TIMEOUT_S):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that")
