"""A GPU driver's library, compiled on the spot and scripted by a file; see ``nvml.c``."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")


@dataclass(frozen=True)
class FakeGpu:
    """One line of the script."""

    uuid: str = "GPU-11111111-aaaa-bbbb-cccc-000000000001"
    name: str = "Stand-in GPU"
    mig: int = 0
    status: int = 0
    energy_mj: int = 5_000_000
    power_w: float = 0.0
    period_ms: float = 0.0

    def but(self, **changes: object) -> FakeGpu:
        """This GPU with some things different."""
        return replace(self, **changes)

    @property
    def line(self) -> str:
        """As the library reads it."""
        return (
            f"{self.uuid} {self.mig} {self.status} {self.energy_mj} {self.power_w} "
            f"{self.period_ms} {self.name}\n"
        )


def compile_library(compiler: str, folder: Path) -> Path:
    """Build ``libnvidia-ml.so.1`` in *folder*."""
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


class NvmlLibrary:
    """A compiled library and its script."""

    def __init__(self, library: Path, script: Path) -> None:
        self.built = library
        self.script = script

    def show(self, *gpus: FakeGpu) -> None:
        """Make the library show *gpus* from its next call on."""
        whole = self.script.with_suffix(".new")
        whole.write_text("".join(gpu.line for gpu in gpus))
        whole.replace(self.script)

    def environment(self) -> dict[str, str]:
        """What another process needs to load it in place of the driver's."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.built.parent),
            "FAKE_NVML": str(self.script),
        }
