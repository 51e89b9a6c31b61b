"""Throw mutated payloads at the decoder and count what becomes of them.

A message is refused with one `PayloadError`, or it is sound: indices in order and in range,
finite values, and the very bytes that the encoder writes for what was decoded. Anything else ends
the run with the message in hex. Three of four mutated messages get the checksum they need, so
that what lies behind it is reached.

    python benchmarks/fuzz_payload.py --mutations 1000000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from stand_ins.hostile_payloads import layout_of, mutated, outcome_of, sealed, sound_message

from cwmp.payload import VALUE_BYTES

SOUND_MESSAGES = 50
TARGET = 1_000_000


def main() -> None:
    """Parse, fuzz, print."""
    parser = argparse.ArgumentParser(description="Fuzz the payload decoder.")
    parser.add_argument("--mutations", type=int, default=TARGET)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="20,000 mutations")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    arguments = parser.parse_args()
    mutations = 20_000 if arguments.quick else arguments.mutations
    started = time.perf_counter()
    outcomes = fuzz(mutations, arguments.seed)
    seconds = time.perf_counter() - started
    total = sum(outcomes.values())
    for kind, count in outcomes.most_common():
        print(f"{count:>10,}  {kind}")
    print(
        f"{total:>10,}  messages in {seconds:.0f} s, none crashed; target {TARGET:,}, "
        f"ratio {total / TARGET:.2f}"
    )
    if arguments.json:
        content = {"mutations": total, "seed": arguments.seed, "outcomes": dict(outcomes)}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


def fuzz(mutations: int, seed: int) -> Counter[str]:
    """How often each outcome came, over all value types."""
    outcomes: Counter[str] = Counter()
    for number, value_type in enumerate(VALUE_BYTES):
        numbers = np.random.default_rng([seed, number])
        layout = layout_of(value_type)
        sound = [sound_message(layout, numbers) for _ in range(SOUND_MESSAGES)]
        share = mutations // len(VALUE_BYTES) + (number < mutations % len(VALUE_BYTES))
        for case in range(share):
            payload = mutated(sound[case % SOUND_MESSAGES], numbers, sound)
            payload = sealed(payload) if case % 4 else payload
            try:
                outcomes[outcome_of(payload, layout)] += 1
            except BaseException:
                print(f"neither sound nor refused: {payload.hex()}", file=sys.stderr)
                raise
    return outcomes


if __name__ == "__main__":
    main()
