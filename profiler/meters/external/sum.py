"""The joules of a stream: samples in, a sum out, and nothing that no energy can explain.

Watts are added up by the trapezoid over the stream's own times, with the variance of
`profiler.meters.sampled` for each interval, both of its terms; a load that runs in step with the
stream's own times is not seen by it. Where samples carry no time
they are placed where they arrived, give or take s_a seconds, which adds no more than
(p_(i+1) - p_i)^2 s_a^2. A stream that counts energy is taken at its word, and adds no variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from profiler.errors import CounterFaultError, MeterError, MeterReadError
from profiler.meters.external.format import Sample
from profiler.meters.external.timing import AgeWatch, Timing
from profiler.meters.sampled import jump_variance_j2, swing_variance_j2

_FIRST_STEP_S = 60.0  # a coarse counter of energy may have been about to step for so long


@dataclass(slots=True)
class StreamSum:
    """Joules since the first sample added.

    Attributes:
        timing: see `Timing`.
        max_w: more is a fault.
        negative: whether watts below 0 are believed.
        counts_energy: whether samples are joules, not watts.
        energy_j, variance_j2: the sum and the variance of sampling.
        losses: grows where joules are lost, and again where counting goes on.
        duplicates: samples dropped since their time had been seen.
        failure: the first unreported one.
    """

    timing: Timing
    max_w: float
    negative: bool
    counts_energy: bool
    energy_j: float = 0.0
    variance_j2: float = 0.0
    losses: int = 0
    duplicates: int = 0
    failure: MeterError | None = None
    _last: tuple[float, float] | None = None
    _before: tuple[float, float] | None = None  # watts and seconds of the interval before
    _newest_s: float | None = None
    _changed_s: float | None = None
    _ages: AgeWatch = field(init=False)

    def __post_init__(self) -> None:
        self._ages = AgeWatch(self.timing)

    @property
    def started(self) -> bool:
        """Whether there is a sample to count on from."""
        return self._last is not None

    def add(self, arrival_s: float, sample: Sample) -> None:
        """Add one sample; a fault is kept in `failure`, and counting goes on from here."""
        stamped = sample.stamp_s is not None
        when_s = arrival_s if sample.stamp_s is None else sample.stamp_s
        newest_s = self._newest_s
        if stamped and when_s == newest_s:
            self.duplicates += 1
            return
        self._newest_s = when_s
        resumed = self._last is None and self.losses > 0
        fault: MeterError | None = self._implausible(sample.value)
        if newest_s is not None and when_s <= newest_s:
            back = f"its time went back by {newest_s - when_s:.3g} s"
            fault = CounterFaultError(back if stamped else "several samples came at once, undated")
        elif sample.stamp_s is not None:
            fault = fault or self._off_time(self._ages.age_s(arrival_s, sample.stamp_s))
        if fault is None and self._last is not None:
            fault = self._add(when_s, sample.value)
        if fault is not None:
            self.lose(fault)
        if self._implausible(sample.value) is None:
            # What was drawn until counting goes on is in no sum: a window must not span this.
            self.losses += resumed
            self._last = (when_s, sample.value)

    def lose(self, cause: MeterError) -> None:
        """Joules are lost: count it, keep the first *cause*, go on from the next sample."""
        self.failure = self.failure or type(cause)(
            f"the external meter's joules are lost: {cause}; repeat the measurement"
        )
        self._last = self._before = None
        self._changed_s = None
        self.losses += 1

    def _add(self, when_s: float, value: float) -> MeterError | None:
        last_s, last = self._last or (when_s, value)
        length_s, step = when_s - last_s, value - last
        if length_s > self.timing.max_gap_s:
            return MeterReadError(
                f"no sample for {length_s:.3g} s, over {self.timing.max_gap_s:.3g} s"
            )
        if self.counts_energy:
            return self._add_joules(when_s, last_s, step)
        self.energy_j += (last + step / 2) * length_s
        self.variance_j2 += jump_variance_j2(step, length_s)
        self.variance_j2 += (step * self.timing.arrival_error_s) ** 2
        if self._before is not None:
            self.variance_j2 += swing_variance_j2(*self._before, step, length_s)
        self._before = (step, length_s)
        return None

    def _add_joules(self, when_s: float, last_s: float, step_j: float) -> MeterError | None:
        if self._changed_s is None:
            self._changed_s = last_s - _FIRST_STEP_S
        if step_j < 0 and not self.negative:
            return CounterFaultError(f"its energy fell by {-step_j:.4g} J, as if it were reset")
        if abs(step_j) > self.max_w * (when_s - self._changed_s):
            return CounterFaultError(
                f"its energy jumped by {step_j:.4g} J, more than {self.max_w:g} W (#max=) allow"
            )
        if step_j:
            self._changed_s = when_s
        self.energy_j += step_j
        return None

    def _implausible(self, value: float) -> CounterFaultError | None:
        if self.counts_energy:
            return None
        if abs(value) > self.max_w:
            return CounterFaultError(f"it shows {value:.6g} W, over {self.max_w:g} W (#max=)")
        if value < 0 and not self.negative:
            return CounterFaultError(
                f"it shows {value:.6g} W (a supply with return: #negative=yes)"
            )
        return None

    def _off_time(self, age_s: float) -> MeterReadError | None:
        """A sample too old to lie in the quiet of its window, or from the future."""
        timing = self.timing
        if -timing.lag_s - timing.period_s <= age_s <= timing.lag_s + timing.period_s:
            return None
        how = "late" if age_s > 0 else "early"
        return MeterReadError(
            f"a sample came {abs(age_s):.3g} s {how}, beyond the {timing.lag_s:.3g} s seen at "
            "opening: its delivery stalled, or the two clocks drifted apart"
        )
