"""What the devices of a compiled program send each other, read from its text."""

import re
from typing import NamedTuple

import numpy as np

_BITS = {"pred": 8, "s8": 8, "u8": 8, "bf16": 16, "f16": 16, "s16": 16, "u16": 16}
_BITS |= {"f32": 32, "s32": 32, "u32": 32, "f64": 64, "s64": 64, "u64": 64}
_CALL = re.compile(
    r"= (.+?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One call: what it is and how many bytes each device hands in."""

    kind: str
    bytes: int


def collectives(text: str) -> list[Collective]:
    """The collectives in a compiled program's text (HLO), in order."""
    found = []
    for line in text.splitlines():
        call = _CALL.search(line)
        if call:
            shapes = _SHAPE.findall(call[1])
            size = sum(
                _BITS.get(kind, 32) // 8 * int(np.prod([int(n) for n in axes.split(",") if n]))
                for kind, axes in shapes
            )
            found.append(Collective(call[2], size))
    return found
