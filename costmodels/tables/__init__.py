"""Anybody's table of measured energies -> rows to fit a cost model to."""

from costmodels.tables.building import read_samples, samples_of
from costmodels.tables.predicting import Asked, features_of
from costmodels.tables.spec import TableSpec

__all__ = ["Asked", "TableSpec", "features_of", "read_samples", "samples_of"]
