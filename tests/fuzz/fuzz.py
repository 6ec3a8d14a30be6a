"""Fuzzing with atheris: texts of a policy, arguments of a tool, bytes of a saved state.

    python tests/fuzz/fuzz.py action -max_total_time=60
    python tests/fuzz/fuzz.py arguments -max_total_time=60
    python tests/fuzz/fuzz.py state -max_total_time=60

`make fuzz` runs the three. Coverage of `mentor_gym` guides the search; seeds, tokens and a mutator that knows the
format (`fuzz_targets.py`) let it get past the first character. A finding ends the run, and its input is written to
`runs/fuzz/`; given as a further argument, it is played again.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

NAMES = ("action", "arguments", "state")
FINDINGS = Path(__file__).parents[2] / "runs" / "fuzz"


def main() -> None:
    """Run one target until libFuzzer's limits are reached."""
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        raise SystemExit(f"usage: {sys.argv[0]} {'|'.join(NAMES)} [options of libFuzzer] [input to play again]")
    import atheris

    with atheris.instrument_imports(include=["mentor_gym"]):
        import fuzz_targets

    (target,) = [target for target in fuzz_targets.TARGETS if target.name == sys.argv[1]]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.3:
            # Bytes and tokens of the dictionary, as libFuzzer does it.
            return bytes(atheris.Mutate(data, max_size))
        return target.mutate(data, chance)[:max_size]

    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus, tokens = Path(folder, "corpus"), Path(folder, "tokens")
        corpus.mkdir()
        for number, seed in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(seed)
        tokens.write_text("".join(f'"{_escape(token)}"\n' for token in target.tokens if len(token) < 60))
        # Longer than an action that is cut; a slow input and a large one are findings too.
        options = [f"-dict={tokens}", f"-artifact_prefix={FINDINGS}/{target.name}-", "-print_final_stats=1"]
        options += ["-max_len=30000", "-timeout=30", "-rss_limit_mb=2048"]
        given = sys.argv[2:]
        inputs = [] if any(not argument.startswith("-") for argument in given) else [str(corpus)]
        atheris.Setup([sys.argv[0], *options, *given, *inputs], target.check, custom_mutator=mutate)
        atheris.Fuzz()


def _escape(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    main()
