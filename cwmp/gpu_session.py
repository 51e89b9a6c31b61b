"""``python -m cwmp.gpu_session``: record what a GPU spends, with torch and NumPy alone.

What ``make profile-gpu`` runs: probes the counter, profiles a CNN, a transformer and ResNet-18,
and the CNN once more. See docs/gpu-session.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

from profiler.errors import CwmpError, OutputError
from profiler.meters.base import EnergyMeter

DONE, REFUSED, INTERRUPTED = 0, 2, 130
_PROBE_S = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Record; the exit code: 0 done, 2 something was refused or failed, 130 interrupted."""
    from cwmp.recorder import STAGES

    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(
        prog="python -m cwmp.gpu_session", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder for the files")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu")
    parser.add_argument("--meter", default="auto", help="auto or NAME[:ARGUMENT]")
    parser.add_argument("--minutes", type=float, default=24.0, help="for all stages together")
    parser.add_argument("--stage-minutes", type=float, default=8.8, help="for one stage, at most")
    parser.add_argument("--precision", type=float, default=0.05, help="wanted relative half-width")
    parser.add_argument(
        "--probe", type=float, default=_PROBE_S, help="seconds to watch the counter"
    )
    parser.add_argument("--stages", default=",".join(names), help=f"of {','.join(names)}")
    parser.add_argument("--quick", action="store_true", help="updates at one density alone")
    options = parser.parse_args(arguments)
    wanted = options.stages.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"unknown stage {unknown[0]!r}; choose from {', '.join(names)}")
    times = (options.minutes, options.stage_minutes, options.probe)
    if not (min(times) > 0 and 0 < options.precision < 1):
        parser.error("times must be above 0, and --precision between 0 and 1")
    try:
        return _record(options, [stage for stage in STAGES if stage.name in wanted])
    except CwmpError as error:
        sys.stderr.write(f"cwmp: {' '.join(str(error).split())}\n")
        return REFUSED


def _record(options: argparse.Namespace, stages: Sequence[Any]) -> int:
    import torch  # before the meter, which asks torch which GPU cuda:N is

    from cwmp.recorded import make_folder, refuse_others
    from cwmp.recorder import PLANS, Recorder, failed
    from profiler.meters import find_meter
    from profiler.operations import check_device

    begin_s = time.perf_counter()
    check_device(options.device)
    if options.device != "cpu":
        torch.zeros(1, device=options.device)  # the context; the meter waits for it from now on
    make_folder(options.out)
    meter = find_meter(options.meter, device=options.device)
    try:
        refuse_others(options.out, meter.info, options.device)
        opened = _open_log(options.out / "session.log")
    except CwmpError:
        meter.close()
        raise
    with opened as log:

        def tell(line: str) -> None:
            text = f"[{time.perf_counter() - begin_s:6.0f} s] {line}\n"
            log.write(text)
            sys.stderr.write(text)

        plans = PLANS[-1:] if options.quick else PLANS
        recorder = Recorder(options.out, meter, options.device, tell, options.precision, plans)
        signal.signal(signal.SIGTERM, _interrupt)
        code = DONE
        try:
            _describe(recorder, options, meter)
            for number, stage in enumerate(stages):
                left_s = 60 * options.minutes - (time.perf_counter() - begin_s)
                share = stage.share / sum(later.share for later in stages[number:])
                limit_s = min(share * left_s, 60 * options.stage_minutes)
                tell(f"{stage.name}: at most {limit_s:.0f} s")
                try:
                    recorder.record(stage, limit_s)
                except CwmpError as error:
                    tell(failed(stage, error))
                    code = REFUSED
                recorder.write_manifest()
        except KeyboardInterrupt:
            tell("interrupted: what was measured is kept; the same command goes on")
            code = INTERRUPTED
        finally:
            meter.close()
            tell(f"files are in {options.out}")
            recorder.write_manifest()
    return code


def _open_log(path: Path) -> TextIO:
    try:
        return path.open("a", buffering=1)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; give another --out"
        ) from error


def _describe(recorder: Any, options: argparse.Namespace, meter: EnergyMeter) -> None:
    """Write what is measured on and how its counter behaves, before anything else."""
    import torch

    from cwmp.recorded import ENVIRONMENT
    from profiler.host import describe_host, git_revision, software_versions
    from profiler.probe import probe

    info = meter.info
    if not (recorder.folder / ENVIRONMENT).exists():  # else this session goes on
        recorder.write_json(
            ENVIRONMENT,
            {
                "recorded_utc": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": describe_host(),
                "software": software_versions(),
                "revision": git_revision(),
                "torch": {"cuda": torch.version.cuda, "hip": torch.version.hip},
                "device": options.device,
                "meter": asdict(info),
                "gpus": _driver_says() if info.name == "nvml" else None,
            },
        )
    if (recorder.folder / "probe.json").exists():
        return
    recorder.tell(f"{info.name} on {info.device}: probing the counter for {options.probe:g} s")
    found = probe(meter, max_time_s=options.probe)
    recorder.write_json("probe.json", found.as_dict())
    period = "not seen" if found.period_s is None else f"{found.period_s:.4g} s"
    recorder.tell(f"period {period}, idle {found.idle_power_w:.4g} W")


def _driver_says() -> dict[str, Any]:
    from profiler.meters.gpus import list_gpus, session

    with session() as nvml:
        gpus = [
            {"name": gpu.name, "cause": gpu.cause, **asdict(gpu.facts)} for gpu in list_gpus(nvml)
        ]
        return {"driver": str(nvml.nvmlSystemGetDriverVersion()), "gpus": gpus}


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
