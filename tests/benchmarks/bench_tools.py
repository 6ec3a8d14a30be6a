r"""Tools and graders beside those of gem and skyrl-gym: CPU time of a step, in turns, in one run.

Ours are steps of `gym.make` with the MENTOR reward; theirs are steps of their own environments. Counted are the
steps alone, without resets, and the time of the processes that a tool uses. The peers run the same programs, ask
the same queries of the same database, and judge the same answers.

- Python: gem's `PythonCodeTool` in its `ToolEnvWrapper`, and skyrl-gym's `searchcode`. Both start a Python for
  every program, and neither confines it.
- SQL: skyrl-gym's `text2sql`. gem has no SQL tool. A query of ours that is the first of its episode pays for the
  episode's own copy of the database.
- Search: both peers leave it to a server of the user's. Here a stub answers with three articles of our corpus; its
  time is not counted, so that theirs is the price of asking alone.
- Calculator: neither has one. A turn without a tool, skyrl-gym's `gsm8k_multi_turn`, stands beside it.
- Answers: skyrl-gym's `gsm8k` and `aime`, which compare texts; gem's `math` and TRL's `accuracy_reward`, which use
  math-verify. "right" is the share of answers that a grader judges right.

gem-llm 0.1.0 demands a msgspec and a nltk of its own, and is installed without its dependencies. It registers the
tasks of reasoning-gym as it is imported; none is measured, and a module without tasks stands in for that package.
gem's ids load their data from the network: its environments are built from the same classes around our tasks. A
peer that is not installed is left out. Run with `make bench`, or `python tests/benchmarks/bench_tools.py`.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import itertools
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import msgspec
import psutil

from mentor_gym import math_answers
from mentor_gym.grading import grade_number
from mentor_gym.protocol import parse_action, render_message
from mentor_gym.suites import Suite, load_suite
from mentor_gym.suites.wiki_corpus import load_library, wiki_corpus
from mentor_gym.tools import code
from mentor_gym.tools.search import search_box
from mentor_gym.tools.sql import SqlBox

REPEATS = 7
EPISODES = 150
# Of a peer that starts a process for each.
PROGRAMS = 4
QUERIES = 60
TARGETS = {"python": 1_500, "sql": 10_000, "search": 700}
TARGET_GRADE_US = 20.0

# A server of either peer's kind, on a free port of this machine.
STUB = """
import base64, http.server, sys
told, packed = (base64.b64decode(text) for text in sys.argv[1:])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = told if self.headers.get("Content-Type") == "application/json" else packed
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""

Work = Callable[[], tuple[int, float]]
Clock = Callable[[], float]
Answer = tuple[str, str, bool]


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        kind: What it stands beside.
        name: Whose it is.
        work: Does it once; returns how many steps or answers it was, and their CPU seconds.
        right: Share of answers judged right; None for tools.
    """

    kind: str
    name: str
    work: Work
    right: float | None = None


def numbers(k: int) -> list[Answer]:
    """Return answers, right ones, and whether these are equal; other ones for every whole number above 1000."""
    return [
        (f"{k}", f"{k}", True),
        (f"{k}.0", f"{k}", True),
        (f"{k:,}.50", f"{k}.5", True),
        (rf"\frac{{{k}}}{{4}}", f"{k / 4}", True),
        (f"${k}.5", f"{k}.5", True),
        (f"{k}.33", f"{k}.3333333333", True),
        (f"-{k}", f"-{k}", True),
        (f"{k}e3", f"{k}000", True),
        (f"{k + 1}", f"{k}", False),
        (f"0.{k}", f"0.{k}3333333", True),
        (f"{k}", f"-{k}", False),
        (f"50{k}2", f"50{k}1", False),
    ]


def formulas(k: int) -> list[Answer]:
    """Return the like of `numbers` with formulas in them."""
    return [
        (f"x^2+{2 * k}x+{k * k}", f"(x+{k})^2", True),
        (rf"\frac{{{k}}}{{\sqrt{{2}}}}", rf"\frac{{{k}\sqrt{{2}}}}{{2}}", True),
        (rf"\{{{k},1,2\}}", rf"\{{1,2,{k}\}}", True),
        (f"(1,{k}]", f"(1,{k})", False),
        (rf"{k}\pi r", rf"r\cdot {k}\pi", True),
        (rf"\frac{{x+{k}}}{{7}}", rf"\frac{{x}}{{7}}+\frac{{{k}}}{{7}}", True),
        (f"x^2+{2 * k}x+{k * k + 1}", f"(x+{k})^2", False),
        (f"x={k}", f"{k}", True),
    ]


def with_dead_children() -> float:
    """CPU seconds of this process and of those that it started and saw end."""
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + dead.ru_utime + dead.ru_stime


def with_interpreter() -> float:
    """CPU seconds of this process and of the code tool's interpreter."""
    worker = code.shared_interpreter().worker
    return time.process_time() + (worker.computed() if worker else 0.0)


def with_live_children() -> float:
    """CPU seconds of this process and of its children, in hundredths."""
    children = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(sum(times[:4]) for times in children)


def our_steps(suite: str | Suite, tool: str, clock: Clock = time.process_time) -> Work:
    """Return the work of playing the teacher's episodes; with a tool, only the turns that call it are counted."""
    env = gym.make("MentorTool-v0", suite=suite, split="train", max_turns=12)
    tasks = env.unwrapped.tasks  # type: ignore[attr-defined]
    episodes = [
        (task.id, [render_message(message) for message in task.teacher if message["role"] == "assistant"])
        for task in (tasks[position] for position in range(EPISODES))
    ]
    mark = f'"name": "{tool}"' if tool else ""

    def work() -> tuple[int, float]:
        steps, seconds = 0, 0.0
        for task_id, turns in episodes:
            env.reset(options={"task_id": task_id})
            for turn in turns:
                start = clock()
                env.step(turn)
                if mark in turn:
                    seconds += clock() - start
                    steps += 1
        return steps, seconds

    return work


def teachers_arguments(suite: str, tool: str, argument: str, count: int) -> list[tuple[Any, str]]:
    """Return tasks and what their teachers give to a tool."""
    found = []
    for task in load_suite(suite).tasks("train"):
        for message in task.teacher:
            if message.get("tool_calls"):
                for call in parse_action(render_message(message)).calls:
                    if call.name == tool and task.grader["kind"] != "state":
                        found.append((task, call.arguments[argument]))
        if len(found) >= count:
            break
    return found[:count]


def repeat(step: Callable[[str], object], actions: list[str], clock: Clock = time.process_time) -> Work:
    """Return the work of taking each action once."""

    def work() -> tuple[int, float]:
        start = clock()
        for action in actions:
            step(action)
        return len(actions), clock() - start

    return work


def grades(
    kind: str, name: str, judge: Callable[[str, str], bool], rounds: int, clock: Clock = time.process_time
) -> Row:
    """Return the row of a grader: the work of judging `rounds` times so many answers, none of them twice."""
    draw = numbers if kind == "number" else formulas
    fresh = itertools.count(1_001)

    def work() -> tuple[int, float]:
        answers = [answer for _ in range(rounds) for answer in draw(next(fresh))]
        start = clock()
        for answer, gold, _ in answers:
            judge(answer, gold)
        return len(answers), clock() - start

    right = statistics.mean(bool(judge(answer, gold)) is expected for answer, gold, expected in draw(1_000))
    return Row(kind, name, work, right)


def our_rows() -> list[Row]:
    """Return the rows of this package."""
    rows = [
        Row("python", "mentor_gym, code", our_steps("code", "python", with_interpreter)),
        Row("sql", "mentor_gym, shop, whole episodes", our_steps("shop", "")),
        Row("sql", "mentor_gym, elements, whole episodes", our_steps("elements", "")),
        Row("sql", "  of these the queries, shop", our_steps("shop", "query")),
        Row("sql", "  of these the queries, elements", our_steps("elements", "query")),
        Row("search", "mentor_gym, wiki, fts5", our_steps("wiki", "search")),
    ]
    if importlib.util.find_spec("tantivy") is not None:
        faster = Suite("wiki", load_suite("wiki").splits, lambda: search_box(wiki_corpus, "tantivy"))
        rows.append(Row("search", "mentor_gym, wiki, tantivy", our_steps(faster, "search")))
    rows.append(Row("calculator", "mentor_gym, math", our_steps("math", "")))
    rows.append(grades("number", "mentor_gym, grade_number", grade_number, 500))
    rows.append(grades("number", "mentor_gym, grade_math", math_answers.grade_math, 500))
    if math_answers.unavailable() is None:
        rows.append(grades("formula", "mentor_gym, grade_math", math_answers.grade_math, 3, with_live_children))
    return rows


@contextlib.contextmanager
def search_server() -> Iterator[str]:
    """Start the stub; yields its address."""
    texts = [f"{document.title}\n{document.text}" for document in load_library().corpus.documents[:3]]
    found = [{"document": {"contents": text}, "score": 1.0} for text in texts]
    replies = (json.dumps({"result": [found]}).encode(), msgspec.msgpack.encode({"result": found}))
    encoded = [base64.b64encode(reply).decode() for reply in replies]
    command = [sys.executable, "-c", STUB, *encoded]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/retrieve"
    finally:
        server.kill()
        server.communicate()


def skyrl_rows(folder: Path, address: str) -> list[Row]:
    """Return the rows of skyrl-gym."""
    import skyrl_gym
    from skyrl_gym.envs.aime import utils as aime
    from skyrl_gym.envs.gsm8k import utils as gsm8k
    from skyrl_gym.envs.search.env import SearchEnvConfig
    from skyrl_gym.envs.sql.env import Text2SQLEnvConfig

    # So many turns that no episode ends: its last step would judge the whole of it.
    extras = {"max_turns": 1_000_000, "extra_info": {}, "reward_spec": {"ground_truth": "42"}}

    def of(env: Any, actions: list[str], clock: Clock = time.process_time) -> Work:
        env.init([])
        check_told(env.step(actions[0])["observations"])
        return repeat(env.step, actions, clock)

    programs = [
        f"<tool><python>{program}</python></tool>"
        for _, program in teachers_arguments("code", "python", "code", PROGRAMS)
    ]
    python = skyrl_gym.make("searchcode", extras=extras)
    queries = [f"<search>{query}</search>" for _, query in teachers_arguments("wiki", "search", "query", QUERIES)]
    config = SearchEnvConfig(search_url=address)
    search = skyrl_gym.make("search", env_config=config, extras=extras)
    turns = skyrl_gym.make("gsm8k_multi_turn", extras=extras)
    return [
        Row("python", "skyrl-gym, searchcode", of(python, programs, with_dead_children)),
        Row("sql", "skyrl-gym, text2sql", skyrl_sql(folder, extras, Text2SQLEnvConfig(db_path=str(folder)))),
        Row("search", "skyrl-gym, search", of(search, queries)),
        Row("calculator", "skyrl-gym, a turn without a tool", of(turns, ["I think that it is #### 41"] * 1000)),
        grades("number", "skyrl-gym, gsm8k", lambda a, g: gsm8k.compute_score(f"#### {a}", g) == 1.0, 500),
        grades("number", "skyrl-gym, aime", lambda a, g: aime.compute_score(f"Answer: {a}", g)["acc"], 500),
        grades("formula", "skyrl-gym, aime", lambda a, g: aime.compute_score(f"Answer: {a}", g)["acc"], 500),
    ]


def skyrl_sql(folder: Path, extras: dict[str, Any], config: Any) -> Work:
    """Return the work of asking each task's database, written to a file, the queries of its teacher."""
    import skyrl_gym

    box = load_suite("shop").new_box()
    assert isinstance(box, SqlBox)
    asked = []
    for task, sql in teachers_arguments("shop", "query", "sql", QUERIES):
        database = folder / "spider/database" / task.id / f"{task.id}.sqlite"
        if not database.exists():
            box.open(task.state)
            box.query("SELECT 1")
            database.parent.mkdir(parents=True)
            database.write_bytes(box._database().content)
        env = skyrl_gym.make("text2sql", env_config=config, extras={**extras, "db_id": task.id, "data": "spider"})
        env.init([])
        check_told(env.step(f"<sql>{sql}</sql>")["observations"])
        asked.append((env, f"<sql>{sql}</sql>"))
    box.close()

    def work() -> tuple[int, float]:
        start = time.process_time()
        for env, action in asked:
            env.step(action)
        return len(asked), time.process_time() - start

    return work


def gem_rows(address: str) -> list[Row]:
    """Return the rows of gem."""
    if importlib.util.find_spec("reasoning_gym") is None:
        stand_in: Any = types.ModuleType("reasoning_gym")
        stand_in.factory = types.SimpleNamespace(DATASETS={})
        sys.modules["reasoning_gym"] = stand_in
    from datasets import Dataset
    from gem.envs.math_env import MathEnv
    from gem.tools.python_code_tool import PythonCodeTool
    from gem.tools.search_tool import SearchTool
    from gem.tools.tool_env_wrapper import ToolEnvWrapper
    from gem.utils.math_grader import boxed_reward_fn

    # What importing gem asks for would print a line for each request.
    logging.getLogger().setLevel(logging.WARNING)
    tasks = Dataset.from_dict({"problem": ["6 times 7?"], "answer": ["42"]})

    def of(tool: Any, actions: list[str], clock: Clock = time.process_time) -> Work:
        env = ToolEnvWrapper(MathEnv(dataset=tasks, use_mp=False), tools=[tool], max_tool_uses=None)
        env.reset(seed=0)
        check_told(env.step(actions[0])[0])
        return repeat(env.step, actions, clock)

    programs = [
        f"<python>{program}</python>" for _, program in teachers_arguments("code", "python", "code", PROGRAMS)
    ]
    queries = [f"<search>{query}</search>" for _, query in teachers_arguments("wiki", "search", "query", QUERIES)]

    def judge(answer: str, gold: str) -> bool:
        return bool(boxed_reward_fn(rf"\boxed{{{answer}}}", gold)[1])

    return [
        Row("python", "gem, PythonCodeTool", of(PythonCodeTool(), programs, with_dead_children)),
        Row("search", "gem, SearchTool", of(SearchTool(search_url=address), queries)),
        grades("number", "gem, math", judge, 3),
        grades("formula", "gem, math", judge, 3),
    ]


def trl_rows() -> list[Row]:
    """Return the rows of TRL."""
    from trl.rewards import accuracy_reward

    def judge(answer: str, gold: str) -> bool:
        return accuracy_reward([[{"content": rf"\boxed{{{answer}}}"}]], [f"${gold}$"]) == [1.0]

    return [
        grades("number", "TRL, accuracy_reward", judge, 3),
        grades("formula", "TRL, accuracy_reward", judge, 3),
    ]


def check_told(observation: Any) -> None:
    """Refuse to time a tool that fails."""
    if not observation or "rror" in str(observation):
        raise RuntimeError(f"a peer's tool failed: {observation}")


def is_installed(*modules: str) -> bool:
    """Say whether all of these packages are."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def main() -> None:
    """Measure and print a table."""
    # The peers run whatever is called python, and ask a proxy where one is set.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # gem makes its folders where it is run.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), search_server() as address:
        rows = our_rows()
        if is_installed("skyrl_gym", "omegaconf", "pandas", "requests"):
            rows += skyrl_rows(Path(folder), address)
        if is_installed("gem", "math_verify", "pylatexenc", "datasets", "requests"):
            rows += gem_rows(address)
        if is_installed("trl", "math_verify"):
            rows += trl_rows()
        samples: dict[Row, list[float]] = {row: [] for row in rows}
        for row in rows:
            row.work()
        for _ in range(REPEATS):
            for row in rows:
                count, seconds = row.work()
                samples[row].append(seconds / count)
    medians = {row: statistics.median(costs) for row, costs in samples.items()}
    missed = []
    for kind in dict.fromkeys(row.kind for row in rows):
        unit = "an answer" if kind in ("number", "formula") else "a step"
        print(f"{f'{kind}, {unit}':40}{'µs CPU':>12}{'per CPU-s':>12}{'right':>8}")
        for row, cost in medians.items():
            if row.kind == kind:
                right = "" if row.right is None else f"{row.right:.0%}"
                print(f"  {row.name:38}{cost * 1e6:12,.1f}{1 / cost:12,.0f}{right:>8}")
                target = 1e6 / TARGET_GRADE_US if kind == "number" else TARGETS.get(kind, 0)
                if row.name.startswith("mentor_gym") and 1 / cost < target:
                    missed.append(f"{row.name}: {target:,.0f} a second")
        print()
    math_answers.close()
    print("All targets hold." if not missed else f"Missed: {'; '.join(missed)}.")


if __name__ == "__main__":
    main()
