"""What weighing entries by their cost can gain on a device, before anyone trains.

`cwmp.gain.predict` is the answer; it stands on tail distributions of |g| (`tails`), expected
curves of layers under those (`curves`), what a rule captures on them (`expected`), and costs
varied within their intervals (`draws`). `regime` lays it out as a map, `advice` as a sentence.
"""

from __future__ import annotations

from cwmp.gain.predict import PredictedGain, predict_gain

__all__ = ["PredictedGain", "predict_gain"]
