"""The decoder under a coverage-guided fuzzer (atheris, which is not a dependency).

    pip install atheris
    python tests/fuzz/fuzz_payload.py -max_total_time=300
    NUMBA_DISABLE_JIT=1 python tests/fuzz/fuzz_payload.py -runs=200000

The second form runs the kernels as Python, so that the fuzzer sees their branches. An input's
first byte chooses the value type; the rest is a message without magic, version, fingerprint and
checksum, which are put in: a fuzzer would guess them once in 2^64. Flags and a corpus directory
are libFuzzer's. It ends with the input that was neither refused nor sound.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from pathlib import Path

import atheris
import numpy as np
from numba import config

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

if not config.DISABLE_JIT:  # numba would compile the instrumentation: load them before it
    import cwmp.kernels.runs
    import cwmp.kernels.values  # noqa: F401

with atheris.instrument_imports(include=["cwmp"]):
    from stand_ins.hostile_payloads import layout_of, mutated, outcome_of, sealed, sound_message

    from cwmp.payload import HEADER_BYTES, VALUE_BYTES

LAYOUTS = [layout_of(value_type) for value_type in VALUE_BYTES]
SOUND = [sound_message(layout, np.random.default_rng(0)) for layout in LAYOUTS]
TOUCHED = slice(8, 12)
outcomes: Counter[str] = Counter()


def as_input(number: int, message: bytes) -> bytes:
    """What the fuzzer sees of a message of the layout *number*."""
    return bytes([number]) + message[TOUCHED] + message[HEADER_BYTES:]


def as_message(content: bytes) -> tuple[int, bytes]:
    """The layout's number and the message of an input of five bytes or more."""
    number = content[0] % len(LAYOUTS)
    start, fingerprint = SOUND[number][: TOUCHED.start], LAYOUTS[number].fingerprint
    return number, sealed(start + content[1:5] + fingerprint + bytes(4) + content[5:])


def one_input(content: bytes) -> None:
    """Decode one input; anything but a refusal or a sound message is a finding."""
    if len(content) < 5:
        return
    number, message = as_message(content)
    outcomes[outcome_of(message, LAYOUTS[number])] += 1
    total = outcomes.total()
    if total >= 4096 and total & (total - 1) == 0:  # libFuzzer leaves without an exit handler
        report()


def one_mutation(content: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's own mutation, or one that knows the format."""
    if seed % 2 or len(content) < 5:
        return atheris.Mutate(content, max_size)
    numbers = np.random.default_rng(seed)
    others = [as_input(number, message) for number, message in enumerate(SOUND)]
    return mutated(content, numbers, others)[:max_size]


def report() -> None:
    """Print how often each outcome came; done whenever the number of messages has doubled."""
    for kind, count in outcomes.most_common():
        sys.stderr.write(f"{count:>10,}  {kind}\n")
    sys.stderr.write(f"{outcomes.total():>10,}  messages\n")


def main() -> None:
    """Hand over to libFuzzer, with sound messages to start from."""
    warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)  # uint64 in Python
    corpus = Path(sys.argv[-1])
    if len(sys.argv) > 1 and corpus.is_dir():
        for number, message in enumerate(SOUND):
            (corpus / f"sound-{number}").write_bytes(as_input(number, message))
    atheris.Setup(sys.argv, one_input, custom_mutator=one_mutation)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
