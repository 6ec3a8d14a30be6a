"""Cost of the search box: turns that search or open, through `gym.make` and bare, and what the index costs.

Times are CPU time of this process, so that a busy machine disturbs them little; each figure is the median of
several repeats. Run with `python tests/benchmarks/bench_search.py`.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable

import gymnasium as gym

import mentor_gym
from mentor_gym.protocol import render_message
from mentor_gym.suites.wiki_corpus import load_library, wiki_corpus
from mentor_gym.tools.search import ENGINES, MAX_QUERY_CHARS, Corpus, search_box

TARGET_PER_S = 700.0
EPISODES = 200
REPEATS = 7


def episodes(env: mentor_gym.MentorToolEnv) -> list[tuple[str, list[str]]]:
    """Return task ids with the teacher's turns, in the wire format."""
    tasks = [env.tasks[position] for position in range(min(EPISODES, len(env.tasks)))]
    return [
        (task.id, [render_message(message) for message in task.teacher if message["role"] == "assistant"])
        for task in tasks
    ]


def cost_of_turns(env: gym.Env[str, str], played: list[tuple[str, list[str]]]) -> tuple[float, float]:
    """Play the episodes once; returns CPU seconds a turn that searches and a turn that opens."""
    spent = {"search": 0.0, "open": 0.0}
    turns = {"search": 0, "open": 0}
    for task_id, texts in played:
        env.reset(options={"task_id": task_id})
        for text in texts:
            name = "search" if '"name": "search"' in text else "open" if '"name": "open"' in text else None
            start = time.process_time()
            env.step(text)
            if name is not None:
                spent[name] += time.process_time() - start
                turns[name] += 1
    return spent["search"] / turns["search"], spent["open"] / turns["open"]


def cost_of_calls(call: Callable[[str], object], queries: list[str]) -> float:
    """Return CPU seconds a call, the median of several rounds."""
    rounds = []
    for _ in range(REPEATS):
        start = time.process_time()
        for query in queries:
            call(query)
        rounds.append((time.process_time() - start) / len(queries))
    return statistics.median(rounds)


def main() -> None:
    """Measure and print a table."""
    start = time.process_time()
    documents = load_library().corpus.documents
    print(f"writing {len(documents)} articles {1000 * (time.process_time() - start):15.0f} ms")
    env = gym.make("MentorTool-v0", suite="wiki", split="train", max_turns=12)
    played = episodes(env.unwrapped)  # type: ignore[arg-type]
    cost_of_turns(env, played)
    samples = [cost_of_turns(env, played) for _ in range(REPEATS)]
    searching, opening = (statistics.median(column) for column in zip(*samples))
    print(f"{'':34}{'µs CPU':>10}{'per s':>12}")
    print(f"{'turn that searches, gym.make':34}{searching * 1e6:10.0f}{1 / searching:12,.0f}")
    print(f"{'turn that opens, gym.make':34}{opening * 1e6:10.0f}{1 / opening:12,.0f}")
    queries = [
        call["function"]["arguments"].partition('"query": "')[2].rstrip('"}')
        for task in env.unwrapped.tasks  # type: ignore[attr-defined]
        for message in task.teacher
        for call in message.get("tool_calls", ())
        if call["function"]["name"] == "search"
    ][:500]
    common = "the of is airport international country city population capital elevation area " * 9
    for engine in ENGINES:
        if engine == "tantivy" and importlib.util.find_spec("tantivy") is None:
            continue
        fresh = Corpus(documents)
        start = time.process_time()
        fresh.search("lima", 1, engine)
        print(f"{f'{engine}: index of {len(fresh)} articles':34}{(time.process_time() - start) * 1e6:10.0f}")
        tool = search_box(wiki_corpus, engine).tools["search"]
        for name, texts in (
            ("the teachers' queries", queries),
            ("common words only", [common[:MAX_QUERY_CHARS]] * 50),
        ):
            cost = cost_of_calls(lambda query: tool.call({"query": query}), texts)  # noqa: B023
            print(f"{f'{engine}: {name}':34}{cost * 1e6:10.0f}{1 / cost:12,.0f}")
    verdict = "holds" if 1 / searching >= TARGET_PER_S else "is missed"
    print(f"The target of {TARGET_PER_S:.0f} turns a second that search {verdict}.")


if __name__ == "__main__":
    main()
