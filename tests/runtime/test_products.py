"""Matrix products are NumPy's, without the warnings that some processors' libraries set off."""

from __future__ import annotations

import numpy as np

from t2d_runtime.device.products import matmul


def test_products_are_numpys() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(2, 5, 7)), rng.normal(size=(7, 3))
    np.testing.assert_array_equal(matmul(left, right), np.matmul(left, right))


def test_flags_of_the_processor_set_off_no_warning() -> None:
    # As where the flags come without a reason; a warning would be an error here.
    largest = np.full((2, 2), np.finfo(np.float32).max)
    assert np.isinf(matmul(largest, largest)).all()
    assert np.isnan(matmul(np.full((1, 1), np.inf, np.float32), np.zeros((1, 1), np.float32))).all()
