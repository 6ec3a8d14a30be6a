"""Write the transcripts that `mentor-gym rewards compare` scores by default: 1,000 episodes of the `math` suite.

They are played by agents that differ, so that rewards do: the embedded model `tiny`, sampled at temperature 1 and
so hot that its calls break, a teacher that errs, chance, and the teacher. Groups are eight samples of one task by
one agent; the teacher, who plays a task in one way, has none. The same releases of torch and NumPy on the same
kind of machine give the same bytes:

    python -m envs_data.make_transcripts

This needs the extra `[train]`; nothing that is imported from here does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRANSCRIPTS = Path(__file__).parent / "transcripts" / "math-1000.jsonl"
GROUP_SIZE = 8
SEED = 20251018
# Source, split, groups; the teacher's are single episodes. No task is played by two of them.
PLAN = (
    ("tiny", "train", 48),
    ("tiny-hot", "train", 12),
    ("tiny", "valid", 20),
    ("noisy-teacher", "train", 20),
    ("random", "train", 12),
    ("teacher", "train", 104),
)
TEMPERATURES = {"tiny": 1.0, "tiny-hot": 1.8}


def main() -> None:
    """Play and write."""
    from agents.rollout import Rollout
    from mentor_gym.transcripts import Episode, write_transcripts

    episodes: list[Episode] = []
    for split in ("train", "valid"):
        settings = {"suite": "math", "split": split, "prompt": "compact", "max_turns": 8, "reward": None}
        with Rollout(settings) as rollout:
            tasks = iter(_shuffle(rollout.task_ids))
            for name, own_split, count in PLAN:
                if own_split != split:
                    continue
                chosen = [next(tasks) for _ in range(count)]
                if name == "teacher":
                    episodes += [Episode(item.transcript, name) for item in rollout.run(_agent(name), chosen)]
                    continue
                played = [
                    [item.transcript for item in rollout.run(agent, chosen, seed=SEED + sample)]
                    for sample, agent in enumerate(_agents(name))
                ]
                episodes += [
                    Episode(played[sample][place], name, f"{name}/{task_id}")
                    for place, task_id in enumerate(chosen)
                    for sample in range(GROUP_SIZE)
                ]
    write_transcripts(TRANSCRIPTS, episodes)
    right = sum(episode.transcript.is_success for episode in episodes)
    print(f"{TRANSCRIPTS}: {len(episodes)} episodes, {right} right, {TRANSCRIPTS.stat().st_size:,} bytes")


def _shuffle(ids: Sequence[str]) -> list[str]:
    import numpy as np

    return [ids[place] for place in np.random.default_rng(SEED).permutation(len(ids))]


def _agents(name: str) -> list[Any]:
    """Return who plays each sample of a group."""
    if name == "noisy-teacher":
        # It spoils the same turns of a task whenever it plays it: its seed makes the samples.
        return [_agent(name, rate=0.3, seed=sample) for sample in range(GROUP_SIZE)]
    if name in TEMPERATURES:
        options = {"temperature": TEMPERATURES[name], "max_new_tokens": 64, "max_context": 1024}
        return [_agent("tiny", **options)] * GROUP_SIZE
    return [_agent(name)] * GROUP_SIZE


def _agent(name: str, **options: Any) -> Any:
    from agents.base import load_agent

    return load_agent(name, **options)


if __name__ == "__main__":
    main()
