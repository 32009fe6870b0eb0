"""The errors that a user can cause and mend; each message says what, why and what to do instead."""


class TrakflowError(Exception):
    """Anything that the user can mend; the workflow shows its sentence and no traceback."""


class ConfigError(TrakflowError):
    """The configuration asks for something impossible or unknown."""


class DataError(TrakflowError):
    """A data set is missing, malformed or does not match the configuration."""


class CheckpointError(TrakflowError):
    """A checkpoint cannot be read, or belongs to another architecture."""


class StoreError(TrakflowError):
    """A file on disk is damaged, cannot be written, or does not belong with the others."""


class NumericalError(TrakflowError):
    """A computation met NaN or Inf, or a system that has no unique solution."""


class DeviceError(TrakflowError):
    """The configured device or an optional package for it is not there."""


class SketchError(TrakflowError):
    """A model does something that the chosen sketch does not cover."""
