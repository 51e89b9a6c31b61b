"""Every error this project raises on purpose.

One root, so that a caller can catch the lot; each child also subclasses the built-in
that a caller would reach for without knowing this project::

    CwmpError
     +-- MeterError
     |    +-- MeterNotFoundError    (LookupError)      no usable energy source
     |    +-- MeterPermissionError  (PermissionError)  a counter exists but may not be read
     |    +-- MeterReadError        (OSError)          a read failed while measuring
     |    +-- CounterFaultError     (ValueError)       a counter said something impossible
     +-- InputError                 (ValueError)       an argument that cannot be used
     |    +-- BudgetError                              a joule budget that cannot be spent
     |    +-- UpdateError                              an update with NaN, inf or no entries
     |    +-- LayerMismatchError                       costs and model disagree on a layer
     +-- FileFormatError            (ValueError)       wrong schema, version or content
     |    +-- PayloadError                             bytes that are not a valid payload
     +-- InputFileError             (FileNotFoundError) an input path that cannot be read
     +-- OutputExistsError          (FileExistsError)  would replace a file unasked
     +-- OutputError                (OSError)          an output that cannot be written
     +-- MissingExtraError          (ImportError)      an optional package is not installed
     +-- RoundError                 (RuntimeError)     a federated round that cannot be completed

A message says what is wrong, where, and what to do, in one line.
"""

from __future__ import annotations


class CwmpError(Exception):
    """Root of every error raised on purpose by this project."""


class MeterError(CwmpError):
    """An energy meter cannot be found, opened or trusted."""


class MeterNotFoundError(MeterError, LookupError):
    """No usable energy source answers to the request."""


class MeterPermissionError(MeterError, PermissionError):
    """A counter exists but this process may not read it."""


class MeterReadError(MeterError, OSError):
    """A read failed while measuring."""


class CounterFaultError(MeterError, ValueError):
    """A counter returned text or a jump that no energy can explain."""


class InputError(CwmpError, ValueError):
    """An argument that cannot be used."""


class BudgetError(InputError):
    """A joule budget that cannot be spent: zero, negative, NaN, or above the dense cost."""


class UpdateError(InputError):
    """An update that cannot be selected from: NaN, infinite, or empty."""


class LayerMismatchError(InputError):
    """A cost file and a model disagree on a layer's name or shape."""


class FileFormatError(CwmpError, ValueError):
    """A file of another schema or version, or with content its schema refuses."""


class PayloadError(FileFormatError):
    """Bytes that are not a valid payload for this model."""


class InputFileError(CwmpError, FileNotFoundError):
    """An input path that does not exist or cannot be read."""


class OutputExistsError(CwmpError, FileExistsError):
    """Writing would replace a file that the caller did not offer up."""


class OutputError(CwmpError, OSError):
    """An output that cannot be written: the disk is full, the folder is read-only."""


class MissingExtraError(CwmpError, ImportError):
    """A feature needs a package that is not installed."""


class RoundError(CwmpError, RuntimeError):
    """A federated round that cannot be completed: no client's update arrived."""
