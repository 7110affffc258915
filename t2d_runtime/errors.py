"""Every error that the project raises on bad input, as one tree. Each leaf is also the builtin that it resembles.

A message names the expected and the given value, and says what to do. The commands print it as one line and exit with
status 2.
"""


class T2DError(Exception):
    """Root of the project's errors."""


class ImageError(T2DError, ValueError):
    """An image that cannot be used: unreadable, truncated, too large, or an array of another shape."""


class ImageSizeError(ImageError):
    """A picture with more pixels than the limit."""


class ImageNotFoundError(T2DError, FileNotFoundError):
    """An image path that does not exist."""


class ClassNamesError(T2DError, ValueError):
    """Class names that cannot be segmented: none, blank, or given twice."""


class OptionError(T2DError, ValueError):
    """An argument outside its range, or a name that is not among the known ones."""


class BundleError(T2DError, ValueError):
    """A bundle whose content is wrong: manifest, checksum, schema version."""


class BundleNotFoundError(T2DError, FileNotFoundError):
    """A folder that is no bundle, or a bundle with a missing file."""


class HubError(T2DError, ConnectionError):
    """A hub that refuses, or sends something else than it promised."""


class HubUnreachableError(HubError):
    """A hub that cannot be reached, for something that is not in the cache."""


class ClosedError(T2DError, ValueError):
    """A call of a segmenter after it was closed."""


class VocabularyError(T2DError, ValueError):
    """A saved vocabulary that is unreadable or was made for another bundle."""


class BackendError(T2DError, RuntimeError):
    """An inference engine that failed to load or to run a graph."""


class BackendUnavailableError(T2DError, ImportError):
    """An inference engine, or its device, that was requested by name and is missing."""


class MissingPackageError(T2DError, ImportError):
    """A missing package of an extra that a command needs."""


class ClusterError(T2DError, RuntimeError):
    """A Ray cluster that cannot be reached, has no place for a worker, or ends during a run."""


class SelfTestError(T2DError, RuntimeError):
    """Outputs on this machine that differ from the reference's by more than the tolerance."""


class WeightsError(T2DError, ValueError):
    """A checkpoint that does not fit: truncated, of another model, keys missing or surplus."""


class WeightsNotFoundError(T2DError, FileNotFoundError):
    """A checkpoint path that does not exist, or a hub that cannot be reached."""


class ExportError(T2DError, RuntimeError):
    """An export that could not be completed."""


class VerificationError(ExportError):
    """An exported graph whose outputs differ from the reference's; the message names the stage."""


class DataError(T2DError, ValueError):
    """Training or evaluation data that cannot be used: captions, features, label maps."""


class NotFiniteError(T2DError, ArithmeticError):
    """A loss, gradient, weight or feature that is not a finite number. Training or extraction stops there."""


class CheckpointError(T2DError, ValueError):
    """A training checkpoint of another run, shape or version."""


class OutputError(T2DError, OSError):
    """A result that could not be written: a full disk, a missing permission, an existing folder."""


class BenchmarkError(T2DError, RuntimeError):
    """A measurement that could not be taken."""


ITEM_ERRORS = (T2DError, OSError, MemoryError, UnicodeError)
"""Errors of one image among many, or of the place for its results. A run goes on with the next image."""
