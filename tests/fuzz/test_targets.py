"""The fuzzers' targets without the fuzzer: their seeds and some mutations hold what is promised."""

from __future__ import annotations

import random

import pytest
from fuzz_targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_seeds_and_mutations_break_no_promise(target: Target) -> None:
    for seed in target.seeds:
        target.check(seed)
    target.check(b"")
    chance = random.Random(0)
    pool = list(target.seeds)
    for _ in range(1000):
        data = chance.choice(pool)
        for _ in range(chance.randrange(1, 6)):
            data = target.mutate(data, chance)[:30_000]
        target.check(data)
