"""AMD GPUs as AMD's module shows them; see ``amd_smi/amdsmi.py``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).with_name("amd_smi")


@dataclass(frozen=True)
class FakeAmdGpu:
    """One GPU of the script."""

    bdf: str = "0000:c1:00.0"
    name: str = "Stand-in Instinct"
    power_w: float | str = 300.0
    counted_w: float = 300.0
    counter: object = 1_000_000
    resolution_uj: float = 15.259
    energy: int = 0
    power: int = 0
    energy_key: str = "energy_accumulator"
    power_key: str = "current_socket_power"

    def but(self, **changes: object) -> FakeAmdGpu:
        """This GPU with some things different."""
        return replace(self, **changes)


class AmdModule:
    """The stand-in module's script."""

    def __init__(self, script: Path) -> None:
        self.script = script

    def show(self, *gpus: FakeAmdGpu) -> None:
        """Make the module show *gpus* from its next call on."""
        whole = self.script.with_suffix(".new")
        whole.write_text(json.dumps({"gpus": [asdict(gpu) for gpu in gpus]}))
        whole.replace(self.script)
