"""The sets of measured energies that cost models are judged by, and the recorded files they need.

All of them are read through the specs in ``examples/tables``; none of the data is in this
repository. The first grouping of a spec is what is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from costmodels.samples import Samples
from costmodels.tables import TableSpec, read_samples

SPECS = Path(__file__).resolve().parent.parent / "examples" / "tables"
_CPUS = {"Broadwell": "broadwell-ep-*", "Raptor Lake": "raptorlake-*"}
_GPUS = {"A40": "a40", "P100": "p100", "RTX 6000": "rtx6000", "V100": "v100"}
_LAYERS = ("conv forward", "conv backward", "linear forward", "linear backward", "pool forward")


@dataclass(frozen=True)
class DataSet:
    """One table and the spec that reads it.

    Attributes:
        name: as it is printed.
        spec: the name of the spec in ``examples/tables``.
        pattern: of the file under the folder with the data.
    """

    name: str
    spec: str
    pattern: str

    def find(self, folder: Path) -> Path | None:
        """The file under *folder*, or ``None``."""
        return next(iter(sorted(folder.glob(f"**/{self.pattern}"))), None)

    def read(self, folder: Path) -> Samples:
        """The usable rows.

        Raises:
            FileNotFoundError: no such file under *folder*.
        """
        path = self.find(folder)
        if path is None:
            raise FileNotFoundError(f"{folder} holds no {self.pattern}")
        return read_samples(path, TableSpec.load(SPECS / f"{self.spec}.toml"))


def _sets() -> Iterator[DataSet]:
    for cpu, host in _CPUS.items():
        for layer in _LAYERS:
            kind, way = layer.split()
            yield DataSet(f"{cpu} {layer}", f"cpu-{kind}-{way}", f"out/{host}/{kind}.csv")
    yield DataSet("edge board conv", "edge-conv", "data/dataset/conv2d.txt")
    for gpu, file in _GPUS.items():
        yield DataSet(f"{gpu} epochs", "gpu-epochs", f"trace/summary_power_{file}.csv")


SETS: tuple[DataSet, ...] = tuple(_sets())


def sets_at(folder: Path, wanted: Iterable[str] = ()) -> list[DataSet]:
    """The sets whose file is under *folder* and whose name contains one of *wanted*, if any."""
    words = [word.lower() for word in wanted]
    return [
        one
        for one in SETS
        if (not words or any(word in one.name.lower() for word in words)) and one.find(folder)
    ]
