"""A GPU driver's library, compiled on the spot and scripted by a file; see ``nvml.c``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")


@dataclass(frozen=True)
class FakeGpu:
    """One line of the script; *extra* are the keys that ``nvml.c`` lists."""

    uuid: str = "GPU-11111111-aaaa-bbbb-cccc-000000000001"
    name: str = "Stand-in GPU"
    mig: int = 0
    status: int = 0
    energy_mj: int = 5_000_000
    power_w: float = 0.0
    period_ms: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)

    def but(self, **changes: object) -> FakeGpu:
        """This GPU with some things different."""
        return replace(self, **changes)

    def with_(self, **extra: float) -> FakeGpu:
        """This GPU with further keys of the script."""
        return replace(self, extra={**self.extra, **extra})

    @property
    def line(self) -> str:
        """As the library reads it."""
        keys = "".join(f"{key}={value} " for key, value in self.extra.items())
        return (
            f"{self.uuid} {self.mig} {self.status} {self.energy_mj} {self.power_w} "
            f"{self.period_ms} {keys}{self.name}\n"
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
