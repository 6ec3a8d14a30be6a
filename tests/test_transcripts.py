"""Episodes in files: written and read back exactly, and every broken row is refused with its line and field."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import answer, call, play

import mentor_gym
from envs_data import make_transcripts
from mentor_gym.data import DataError, data_path
from mentor_gym.suites import load_suite
from mentor_gym.testing.transcripts import fuzz_transcripts
from mentor_gym.transcripts import (
    Episode,
    append_transcripts,
    find_transcripts,
    read_transcripts,
    write_transcripts,
)
from mentor_gym.types import StopReason, Transcript

SHIPPED = data_path("transcripts", "math-1000.jsonl")


def played(suite: str, turns: list[str], task_id: str = "both", **options: Any) -> Transcript:
    """Play turns on the bare environment."""
    environment = mentor_gym.MentorToolEnv(suite, **options)
    play(environment, turns, task_id)
    return environment.transcript


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Drawn episodes have every end and every kind of failure; three quarters are of no shipped task."""
    tasks = [load_suite(name).tasks("valid")[place] for name in ("math", "office") for place in range(5)]
    transcripts = [item for item in fuzz_transcripts(tasks, 600) if item.stop_reason is not None]
    assert {item.stop_reason for item in transcripts} == set(StopReason)
    episodes = [Episode(item, "fuzz", f"{place}") for place, item in enumerate(transcripts)]
    write_transcripts(tmp_path / "transcripts.jsonl", episodes)
    read = read_transcripts(tmp_path)
    assert read == episodes
    inline = [row["task"]["id"] for row in rows(tmp_path / "transcripts.jsonl") if "task" in row]
    assert len(inline) == len(set(inline)) == len({item.task.id for item in transcripts if "/" in item.task.id})
    for episode, transcript in zip(read, transcripts):
        if "/" not in transcript.task.id:
            assert episode.transcript.task is transcript.task


def test_what_follows_from_the_rest_is_left_out(suite: str, tmp_path: Path) -> None:
    transcript = played(suite, [call("power", base=3, exponent=2), call("refuse"), answer(9)])
    write_transcripts(tmp_path / "a.jsonl", [Episode(transcript, "me")] * 2)
    first, second = rows(tmp_path / "a.jsonl")
    assert second == {
        "suite": "shop",
        "split": "train",
        "task_id": "both",
        "source": "me",
        "stop_reason": "answer",
        "answer": "9",
        "turns": [
            {"text": call("power", base=3, exponent=2), "results": [{"output": "9"}]},
            {"text": call("refuse"), "results": [{"output": "error: refuse: not today", "error": "tool_failed"}]},
            {"text": answer(9)},
        ],
    }
    assert first.keys() - second.keys() == {"task", "tools"}


def test_a_cut_off_turn_keeps_that_nothing_of_it_was_read(suite: str, tmp_path: Path) -> None:
    environment = mentor_gym.MentorToolEnv(suite)
    environment.reset(options={"task_id": "both"})
    environment.mark_cut_off()
    environment.step(answer(18))
    write_transcripts(tmp_path / "a.jsonl", [Episode(environment.transcript, "me")])
    (read,) = read_transcripts(tmp_path / "a.jsonl")
    assert read.transcript == environment.transcript
    assert read.transcript.turns[0].action.answer is None


def test_facts_about_tools_are_those_of_the_environment(suite: str, tmp_path: Path) -> None:
    """Of a user's suite they stand in the file; of a shipped one they come from its box."""
    office = next(task for task in load_suite("office").tasks("test") if "add_appointment" in task.tools)
    environment = mentor_gym.MentorToolEnv("office", "test")
    play(environment, [answer("nothing")], office.id)
    mine = played(suite, [answer(1)])
    assert mine.tools
    assert {fact.read_only for fact in environment.transcript.tools.values()} == {True, False}
    write_transcripts(tmp_path / "a.jsonl", [Episode(mine, "me"), Episode(environment.transcript, "me")])
    first, second = read_transcripts(tmp_path / "a.jsonl")
    assert first.transcript.tools == mine.tools
    assert second.transcript.tools == environment.transcript.tools
    assert "tools" not in rows(tmp_path / "a.jsonl")[1]


def test_appending_keeps_what_is_there(suite: str, tmp_path: Path) -> None:
    first, second = (Episode(played(suite, [answer(number)]), "me", "1/both") for number in (18, 17))
    path = tmp_path / "new" / "transcripts.jsonl"
    append_transcripts(path, [first])
    append_transcripts(path, [second, first])
    read = read_transcripts(path)
    assert read == [first, second, first]
    # Rewards remember a teacher by the task's identity.
    assert read[0].transcript.task is read[1].transcript.task
    write_transcripts(path, [second])
    assert read_transcripts(path) == [second]


def test_groups_of_several_files_are_told_apart(suite: str, tmp_path: Path) -> None:
    episode = Episode(played(suite, [answer(18)]), "me", "1/both")
    for name in ("b", "a/deep"):
        write_transcripts(tmp_path / name / "transcripts.jsonl", [episode, Episode(episode.transcript, "me")])
    assert [item.group for item in read_transcripts(tmp_path)] == ["a/deep: 1/both", None, "b: 1/both", None]
    assert [item.group for item in read_transcripts(tmp_path / "b")] == ["1/both", None]
    # A folder's own file comes alone: what lies beneath are other runs.
    write_transcripts(tmp_path / "transcripts.jsonl", [episode])
    assert find_transcripts(tmp_path) == [tmp_path / "transcripts.jsonl"]


def test_episodes_that_cannot_be_are_not_written(suite: str, tmp_path: Path) -> None:
    path = tmp_path / "transcripts.jsonl"
    good = played(suite, [answer(18)])
    with pytest.raises(ValueError, match=r"episode 1, of task 'both': .*has not ended"):
        append_transcripts(path, [Episode(good, "me"), Episode(played(suite, [call("leave")]), "me")])
    with pytest.raises(ValueError, match="at least one turn"):
        write_transcripts(path, [Episode(Transcript(good.task, [], StopReason.TURN_LIMIT), "me")])
    assert not path.exists()


TASK = load_suite("math").tasks("test")[0]
RIGHT = {"text": answer(TASK.answer)}
CALL = {"text": call("add", a=1, b=2), "results": [{"output": "3"}]}
GOOD: dict[str, Any] = {
    "suite": "math",
    "split": "test",
    "task_id": TASK.id,
    "source": "me",
    "stop_reason": "answer",
    "answer": TASK.answer,
    "is_success": True,
    "turns": [RIGHT],
}
INLINE = json.loads(json.dumps({**GOOD, "suite": "mine", "task": msgspec.to_builtins(TASK)}))
INLINE["task"]["suite"] = "mine"


def bad(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


def bad_inline(**fields: Any) -> dict[str, Any]:
    return {**INLINE, "task": {**INLINE["task"], **fields}}


def ended(reason: str, *turns: dict[str, Any], **fields: Any) -> dict[str, Any]:
    kept = {key: value for key, value in GOOD.items() if key not in ("answer", "is_success")}
    return {**kept, "stop_reason": reason, "turns": list(turns), **fields}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "not an episode"),
        ("[]", "not an episode"),
        ({key: value for key, value in GOOD.items() if key != "source"}, 'field "source" is missing'),
        (bad(reward=1), 'field "reward" is unknown; known fields: suite, split'),
        (bad(stop_reason="tired"), 'field "stop_reason": invalid enum value'),
        (bad(turns=[{"text": 3}]), r'field "turns\[0\].text": expected str, got int'),
        (bad(turns=[{**RIGHT, "colour": 1}]), r'field "turns\[0\]": object contains unknown field colour'),
        (bad(suite="chess"), "field \"suite\": 'chess' is no shipped suite, and no row up to here holds the task"),
        (bad(suite="tests/custom_suite/suite.yaml"), "is no shipped suite"),
        (bad(split="tset"), "field \"split\": .*did you mean 'test'"),
        (bad(task_id="math-test-99999"), "field \"task_id\": suite 'math' has no task 'math-test-99999'"),
        (bad(tools={}, answer="7"), f"field \"answer\": '7', but the last turn answers '{TASK.answer}'"),
        (bad(answer=None), 'field "answer": stop_reason is answer, but there is none'),
        (bad(turns=[]), 'field "turns": an episode that has ended has at least one turn'),
        (bad(turns=[RIGHT, RIGHT]), r'field "turns\[0\]": a turn without a call'),
        (bad(turns=[{"text": "well"}, RIGHT]), r'field "turns\[0\]": a turn without a call'),
        (
            bad(turns=[{**CALL, "results": []}, RIGHT]),
            r'field "turns\[0\].results": expected one per call, 1, got 0',
        ),
        (bad(turns=[CALL, {**RIGHT, "results": [{"output": ""}]}]), r'"turns\[1\].results": .* 0, got 1'),
        (ended("turn_limit", CALL, is_success=True), 'field "is_success": true, but stop_reason is turn_limit'),
        (ended("turn_limit", CALL, answer="3"), 'field "answer": given, but stop_reason is turn_limit'),
        (ended("turn_limit", {"text": "well"}), 'field "stop_reason": turn_limit does not fit the last turn'),
        (ended("no_answer", CALL), 'field "stop_reason": no_answer does not fit'),
        (ended("no_answer", {"text": "<answer>18"}), 'field "stop_reason": no_answer does not fit'),
        (ended("token_limit", RIGHT), 'field "stop_reason": token_limit does not fit'),
        (ended("env_crashed", CALL), 'field "stop_reason": env_crashed does not fit'),
        (
            bad(tools={"add": {"parameters": {}, "read_only": True}}),
            'field "tools": only a row with a task of its',
        ),
        ({**INLINE, "tools": {"sub": {"parameters": {}, "read_only": True}}}, "the task offers no tool 'sub'"),
        (bad_inline(id="other"), f"field \"task.id\": expected '{TASK.id}', got 'other'"),
        (bad_inline(split="train"), "in task: field \"split\": expected 'test', got 'train'"),
        (bad_inline(answer="many"), "in task: field \"answer\": 'many' is no answer to a number grader"),
        (bad_inline(tools=[{"type": "function"}]), "an inline schema needs function.name"),
        (bad_inline(teacher=[{"role": "user"}]), r'in task: field "teacher\[0\]": expected role'),
        (bad_inline(colour=1), 'field "task": object contains unknown field colour'),
        (
            bad(group="g", task_id=load_suite("math").tasks("test")[1].id),
            "in group 'g', task_id is 'math-test-0.* 1;",
        ),
        (
            bad(group="g", source="you"),
            "in group 'g', source is 'you' here and 'me' in line 1; a group is one task",
        ),
    ],
)
def test_broken_rows_are_refused(tmp_path: Path, row: Any, words: str) -> None:
    path = tmp_path / "some.jsonl"
    lines = [bad(group="g"), {}, row]
    text = [item if isinstance(item, str) else json.dumps(item) if item else "  " for item in lines]
    path.write_text("\n".join(text))
    with pytest.raises(DataError, match=rf"some\.jsonl, line 3(: |, ).*{words}"):
        read_transcripts(path)
    path.write_text("\n".join([*text[:2], json.dumps(INLINE)]))
    assert len(read_transcripts(path)) == 2


def test_files_that_hold_no_transcripts_are_refused(tmp_path: Path) -> None:
    for name, words in (("run.json", "chat messages"), ("attempts.jsonl", "traces")):
        folder = tmp_path / name.partition(".")[0]
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / name).write_text("{}")
        for path in (folder, folder / "deep", folder / "deep" / name):
            with pytest.raises(DataError, match=rf"transcripts\.jsonl|{words}") as caught:
                read_transcripts(path)
            assert words in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no transcripts\.jsonl in it or beneath it$"):
        read_transcripts(tmp_path / "empty")
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read: No such file"):
        read_transcripts(tmp_path / "gone.jsonl")
    (tmp_path / "blank.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no episodes"):
        read_transcripts(tmp_path / "blank.jsonl")


def test_shipped_transcripts_are_what_the_environment_records() -> None:
    episodes = read_transcripts(SHIPPED)
    assert len(episodes) == 1_000
    assert SHIPPED.stat().st_size < 1_500_000
    environments = {split: mentor_gym.MentorToolEnv("math", split, max_turns=8) for split in ("train", "valid")}
    for episode in episodes:
        transcript = episode.transcript
        environment = environments[transcript.task.split]
        play(environment, [turn.text for turn in transcript.turns], transcript.task.id)
        assert environment.transcript == transcript
        assert environment.transcript.tools == transcript.tools


def test_shipped_transcripts_have_the_groups_of_their_plan() -> None:
    episodes = read_transcripts(SHIPPED)
    planned: Counter[tuple[str, str]] = Counter()
    for source, split, count in make_transcripts.PLAN:
        planned[source, split] += count * (1 if source == "teacher" else make_transcripts.GROUP_SIZE)
    assert Counter((item.source, item.transcript.task.split) for item in episodes) == planned
    sizes = Counter(item.group for item in episodes if item.group is not None)
    assert set(sizes.values()) == {make_transcripts.GROUP_SIZE}
    assert {item.group is None for item in episodes if item.source == "teacher"} == {True}


def test_a_task_of_another_suite_with_a_shipped_name_stands_in_the_file(tmp_path: Path) -> None:
    changed = msgspec.structs.replace(TASK, prompt="Another question?")
    turn = read_transcripts(SHIPPED)[0].transcript.turns[-1]
    transcript = Transcript(changed, [turn], StopReason.ANSWER, turn.action.answer)
    write_transcripts(tmp_path / "a.jsonl", [Episode(transcript, "me")])
    assert read_transcripts(tmp_path / "a.jsonl")[0].transcript.task.prompt == "Another question?"
