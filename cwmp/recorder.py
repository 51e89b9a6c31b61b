"""Profiling sessions recorded into a folder of plain files, one stage after the other.

Needs torch and NumPy alone. Each stage leaves its journal, written block by block, and where
pandas and pydantic are installed its trace. A stage that is done is not repeated and one that
was cut short goes on, so that the same command can be given again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cwmp.fl.models import build_model
from cwmp.recorded import refuse_others
from profiler.errors import CwmpError, InputError, MissingExtraError
from profiler.files import write_atomic
from profiler.journal import Journal
from profiler.meters.base import EnergyMeter
from profiler.progress import Standing
from profiler.session import SessionInterrupted, profile_model

if TYPE_CHECKING:
    from profiler.trace import Trace

IMAGE, CLASSES = (3, 32, 32), 10
_SAID_EVERY_S, _STRETCH = 15.0, 1.5
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Plan:
    """What is measured of a model."""

    operations: tuple[str, ...] = ("update", "train")
    densities: tuple[float, ...] = (0.01, 0.05, 0.2)
    batch_sizes: tuple[int, ...] = (8, 32)


PLANS = (
    Plan(),
    Plan(densities=(0.01, 0.2)),
    Plan(densities=(0.2,)),
    Plan(("update",), (0.2,)),
)
"""Fewer and fewer cells: the first that the stage's time suffices for is measured."""


@dataclass(frozen=True)
class Stage:
    """One session: a model, its share of the time, and the seed of its order and values.

    Attributes:
        like: the stage whose plan it repeats, to be compared with it.
    """

    name: str
    model: str
    share: float
    seed: int = 0
    like: str | None = None


STAGES = (
    Stage("lenet", "lenet", 0.16),
    Stage("transformer", "transformer", 0.22),
    Stage("resnet18", "resnet18", 0.36),
    Stage("lenet-again", "lenet", 0.16, seed=1, like="lenet"),
)


@dataclass
class Recorder:
    """Records stages into *folder*.

    Args:
        folder: exists.
        meter: open; the caller closes it.
        device: ``cuda:N`` or ``cpu``.
        tell: takes each line of progress.
        precision: wanted relative half-width.
        plans: what to measure, the fullest first; see `PLANS`.
    """

    folder: Path
    meter: EnergyMeter
    device: str
    tell: Callable[[str], None]
    precision: float = 0.05
    plans: Sequence[Plan] = PLANS
    _told_s: float = field(default=0.0, init=False)

    def record(self, stage: Stage, max_time_s: float) -> None:
        """Record *stage* in at most *max_time_s*, half as much again where calls are slow.

        Raises:
            InputError: even the smallest plan takes longer, or the folder holds recordings of
                another meter, device or host.
            CwmpError: the session failed; its journal keeps what was measured.
            KeyboardInterrupt: interrupted; what was measured is saved.
        """
        refuse_others(self.folder, self.meter.info, self.device)
        journal = self.folder / f"{stage.name}.journal"
        before = Journal.read(journal) if journal.exists() else None
        if before is not None and before.end is not None:
            self.tell(f"{stage.name}: recorded before, left as it is")
            return
        if before is not None:
            self.tell(f"{stage.name}: goes on after {len(before.blocks)} blocks")
            self._profile(stage, _plan_in(before.header), max_time_s, resume=True)
            return
        plans: Sequence[Plan] = self.plans
        if stage.like is not None and (first := self.folder / f"{stage.like}.journal").exists():
            plans = (_plan_in(Journal.read(first).header),)
        begin_s = time.perf_counter()
        for number, plan in enumerate(plans, start=1):
            left_s = max_time_s - (time.perf_counter() - begin_s)
            try:
                self._profile(stage, plan, left_s, resume=False)
            except InputError as error:
                if "--max-time" not in str(error):
                    raise
                if number == len(plans):
                    if not journal.exists():
                        raise
                    self.tell(f"{stage.name}: calls are slow, half as much time again is taken")
                    self._profile(stage, plan, _STRETCH * left_s, resume=True)
                    return
                journal.unlink(missing_ok=True)
                self.tell(f"{stage.name}: too many cells for {left_s:.0f} s, taking fewer")
            else:
                return

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a document of the folder, in place of an older one."""
        text = json.dumps(content, indent=1, allow_nan=False, sort_keys=True)
        write_atomic(self.folder / name, f"{text}\n".encode(), force=True)

    def write_manifest(self) -> None:
        """Name, size and SHA-256 of every file of the folder but the manifest itself."""
        files = sorted(
            path for path in self.folder.iterdir() if path.is_file() and path.name != _MANIFEST
        )
        listed = [
            {
                "file": path.name,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        ]
        self.write_json(_MANIFEST, {"schema_name": "cwmp.recording", "version": 1, "files": listed})

    def _profile(self, stage: Stage, plan: Plan, max_time_s: float, *, resume: bool) -> None:
        import torch

        generator = torch.Generator().manual_seed(stage.seed)
        example = torch.randn(max(plan.batch_sizes), *IMAGE, generator=generator)
        trace: Trace | None = None
        try:
            trace = profile_model(
                build_model(stage.model, IMAGE, CLASSES, seed=0),
                model_name=stage.model,
                meter=self.meter,
                example_input=example,
                operations=plan.operations,
                device=self.device,
                densities=plan.densities,
                precision=self.precision,
                max_time_s=max_time_s,
                seed=stage.seed,
                journal=self.folder / f"{stage.name}.journal",
                resume=resume,
                progress=lambda standing: self._say(stage.name, standing),
                batch_sizes=plan.batch_sizes,
            )
        except MissingExtraError as error:
            self.tell(f"{stage.name}: only its journal is left here: {error}")
            if Journal.read(self.folder / f"{stage.name}.journal").end is None:
                raise KeyboardInterrupt from error  # no trace could be made of what there is
        except SessionInterrupted as stop:
            self._save(stage.name, stop.trace)
            raise
        self._save(stage.name, trace)

    def _save(self, name: str, trace: Trace | None) -> None:
        if trace is None:
            return
        for suffix in (".csv", ".parquet"):
            try:
                trace.save(self.folder / f"{name}{suffix}", force=True)
            except MissingExtraError as error:
                self.tell(f"{name}: {error}")
        self.tell(f"{name}: {len(trace.blocks)} blocks")

    def _say(self, name: str, standing: Standing) -> None:
        now_s = time.perf_counter()
        if standing.done and now_s - self._told_s < _SAID_EVERY_S:
            return
        self._told_s = now_s
        self.tell(
            f"{name}: {standing.stage} {standing.done} of {standing.planned}, "
            f"{standing.left_s:.0f} s left, {standing.operation} {standing.layer}"
        )


def _plan_in(header: dict[str, Any]) -> Plan:
    """The plan of the session that wrote a journal."""
    asked = header["identity"]
    return Plan(tuple(asked["operations"]), tuple(asked["densities"]), tuple(asked["batch_sizes"]))


def failed(stage: Stage, error: CwmpError) -> str:
    """A failed stage, in one line."""
    return f"{stage.name}: failed: {' '.join(str(error).split())}"
