"""How long the steps of real energy counters take.

The quantiles are those of processors measured for a validation study of RAPL at ICPE 2024: mean
1.00 ms, and 1 % to 99 % between 0.68 and 1.65 ms on Ice Lake, 0.87 and 1.11 ms on Broadwell; memory
up to 3.07 ms.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

_Z99 = 2.326347874


@dataclass(frozen=True)
class Steps:
    """Two halves of log-normal distributions that meet in the median."""

    p1_s: float
    median_s: float
    p99_s: float

    def draw(self, generator: random.Random) -> float:
        """The seconds until the next step."""
        z = generator.gauss(0.0, 1.0)
        end_s = self.p99_s if z > 0 else self.p1_s
        return self.median_s * (end_s / self.median_s) ** (abs(z) / _Z99)

    @property
    def mean_s(self) -> float:
        """The mean of all that can be drawn."""
        halves = [math.log(end_s / self.median_s) / _Z99 for end_s in (self.p1_s, self.p99_s)]
        means = [math.exp(s * s / 2) * (1 + math.erf(s / math.sqrt(2))) for s in halves]
        return self.median_s * sum(means) / 2


ICE_LAKE = Steps(0.68e-3, 0.942e-3, 1.65e-3)
BROADWELL = Steps(0.87e-3, 1.004e-3, 1.11e-3)
MEMORY = Steps(0.68e-3, 0.73e-3, 3.07e-3)
