"""``summary.json`` of a study: its endpoints, tests, controls and verdicts, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from costmodels.costfile import Origin
from cwmp.documents import read_document
from cwmp.studies.runs import EnergyCell
from profiler.files import write_atomic

SCHEMA: Literal["cwmp.studysummary"] = "cwmp.studysummary"
VERSION: Literal[1] = 1

Verdict = Literal["better", "worse", "tied", "unknown"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MeanOf(_Strict):
    """A mean over seeds with its 95 % bootstrap interval; null ends for a single seed."""

    n: int
    mean: float
    low: float | None
    high: float | None


class Target(_Strict):
    """Joules to one accuracy.

    Attributes:
        accuracy: the target.
        reached, n: seeds that met it, of all.
        median_j: Kaplan-Meier's; null where half of the seeds never met it.
    """

    accuracy: float
    reached: int
    n: int
    median_j: float | None


class DeviceCosts(_Strict):
    """What one kind of device charges, and where the numbers come from.

    Attributes:
        spread: exp(2 sd of ln c) over entries.
        layer_ratio: joules an entry of the dearest layer over those of the cheapest.
        dense_j: of sending and applying everything once.
        message_share: part of it that a message costs, whatever it holds.
        opening_share: part of it that one entry in every layer costs beyond the marginal joules of
            those entries: fixed costs, which the spread does not show.
    """

    device: str
    kind: str
    file: str
    measured_on: str
    origin: Origin
    basis: str
    spread: float
    layer_ratio: float
    dense_j: float
    message_share: float
    opening_share: float = 0.0


class StudyCell(_Strict):
    """A method at a budget on a device: what its seeds came to.

    Attributes:
        control: "" but for controls.
        runs: how the planned runs ended; those not run yet are ``missing``.
        reason: of the first that did not finish.
        hypervolume: by scope, ``total`` and ``exchange``; null where joules are not priced.
        targets: in joules of the study's scope.
        phases: mean joules of a run; null where a cost file does not price it.
        spent: mean joules that a client declared a round, over its budget; null for methods that
            take none or declare none, and where the fleet is mixed.
        total, exchange: mean joules of a run, with and without training.
        certificate: least captured sum of g^2 over its LP bound, of any round.
    """

    device: str
    alpha: float
    method: str
    budget: str
    control: str
    runs: dict[str, int]
    reason: str = ""
    final_accuracy: MeanOf | None = None
    worst_decile: MeanOf | None = None
    hypervolume: dict[str, MeanOf | None] = {}
    targets: tuple[Target, ...] = ()
    phases: dict[str, EnergyCell | None] = {}
    total: EnergyCell | None = None
    exchange: EnergyCell | None = None
    uplink_bytes: float | None = None
    spent: float | None = None
    certificate: float | None = None


class Sooner(_Strict):
    """Pairs in which a target was met with fewer joules; ``censored`` pairs say nothing."""

    accuracy: float
    fewer: int
    more: int
    equal: int
    censored: int


class StudyTest(_Strict):
    """A method against another at one place, paired by seed.

    Attributes:
        budget, other_budget: of each; they differ where one takes no budget.
        endpoint: what is compared.
        difference: method minus other.
        p, p_holm: of Wilcoxon's test; *p_holm* in the family alone, where tests decide.
        verdict: `cwmp.studies.comparing.verdict_of`, in the family by *p_holm*, else by *p*, which
            is then one of many that nothing corrects.
        sooner: joules to each target.
        energy_ratio: the method's joules over the other's, in the study's scope.
    """

    device: str
    alpha: float
    method: str
    budget: str
    other: str
    other_budget: str
    endpoint: str
    difference: MeanOf
    p: float
    p_holm: float | None
    family: bool
    verdict: Verdict
    identical: bool
    sooner: tuple[Sooner, ...] = ()
    energy_ratio: float | None = None


class ControlVerdict(_Strict):
    """One control.

    Attributes:
        holds: whether it came out as theory says; null where it shows rather than checks, or
            where nothing was run.
        compared: runs, or pairs of them.
    """

    control: str
    holds: bool | None
    compared: int
    sentence: str
    difference: MeanOf | None = None
    energy_ratio: float | None = None


class StudySummary(_Strict):
    """``summary.json``. `load` and `save` are the file.

    Attributes:
        spec: the study as it was described.
        family: name and number of its tests.
        reference_j: of the hypervolume, by ``device, alpha``.
        verdicts: sentences: with which costs, of which origin, who wins, ties or loses.
        warnings: what to hold against them.
    """

    schema_name: Literal["cwmp.studysummary"] = SCHEMA
    version: Literal[1] = VERSION
    created_utc: str
    spec: dict[str, Any]
    planned: int
    done: int
    family: str
    family_tests: int
    costs: tuple[DeviceCosts, ...]
    reference_j: dict[str, float | None]
    cells: tuple[StudyCell, ...]
    tests: tuple[StudyTest, ...]
    controls: tuple[ControlVerdict, ...]
    verdicts: tuple[str, ...]
    warnings: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> StudySummary:
        """Read a summary.

        Raises:
            InputFileError: the file is absent or unreadable.
            FileFormatError: not a summary, another version, or refused content.
        """
        return read_document(path, cls, SCHEMA, VERSION, "a study's summary")

    def save(self, path: Path) -> None:
        """Write it whole or not at all; an older summary of the study is replaced."""
        write_atomic(path, (self.model_dump_json(indent=1) + "\n").encode(), force=True)
