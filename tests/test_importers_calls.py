"""Importers of function-calling sets: small files in the real formats, each also with broken rows.

The samples are ours; fields, nesting and notation are those of the published files.
"""

import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest

import mentor_gym
from mentor_gym.data import DataError
from mentor_gym.importers import FORMATS, hermes, import_file
from mentor_gym.importers.base import Request, convert_rows, play_teachers
from mentor_gym.importers.boxes import ACCEPTED, Catalogue, RecordedBox, SourceBox
from mentor_gym.importers.schemas import function_schema, tool_name
from mentor_gym.importers.toolace import read_calls
from mentor_gym.suites.base import load_yaml_suite
from mentor_gym.testing import check_suite

SAMPLES = {
    name: Path(__file__).parent / "import_samples" / file
    for name, file in {
        "mentor": "mentor.jsonl",
        "xlam": "xlam.json",
        "toolace": "toolace.json",
        "hermes": "hermes.json",
        "openai": "openai.jsonl",
    }.items()
}
needs_arrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs the extra data")


def rows_of(name):
    text = SAMPLES[name].read_text(encoding="utf-8")
    return json.loads(text) if SAMPLES[name].suffix == ".json" else [json.loads(x) for x in text.splitlines()]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tasks_of(done, split="train"):
    return list(load_yaml_suite(str(done.suite)).tasks(split))


def play(done, task_id, *turns):
    env = gym.make("MentorTool-v0", suite=str(done.suite), reward="sparse").unwrapped
    env.reset(options={"task_id": task_id})
    outputs = [env.step(turn)[0] for turn in turns]
    env.close()
    return env.transcript.is_success, outputs


def call(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


# What is read


@pytest.mark.parametrize(
    ("name", "rows", "teachers", "longest", "dropped"),
    [
        ("mentor", 3, 0, 0, 0),
        ("xlam", 3, 3, 2, 0),
        ("toolace", 2, 2, 2, 1),
        ("hermes", 2, 2, 3, 0),
        ("openai", 3, 3, 2, 0),
    ],
)
def test_every_teacher_of_an_imported_set_succeeds(tmp_path, name, rows, teachers, longest, dropped):
    done = import_file(name, SAMPLES[name], tmp_path / "set")
    assert (done.rows, done.teachers, done.longest) == ({"train": rows}, teachers, longest)
    assert len(done.dropped) == dropped
    suite = load_yaml_suite(str(done.suite))
    played = [transcript for transcript in play_teachers(suite, "train") if transcript is not None]
    assert [transcript.is_success for transcript in played] == [True] * teachers
    check_suite(str(done.suite))


def test_mentor_data(tmp_path):
    done = import_file("mentor", SAMPLES["mentor"], tmp_path / "mentor")
    first, second, third = tasks_of(done)
    assert (first.prompt, first.answer, first.grader) == (
        "What is the square root of 2 + 7?",
        "3",
        {"kind": "number"},
    )
    assert (second.answer, second.grader["kind"]) == ("\\frac{3}{4}", "number")
    assert (third.answer, third.grader) == ("3^2", {"kind": "text", "aliases": ["3**2"]})
    assert third.meta["teacher_tools"] == ["sqrt", "sqrt", "add"]
    assert [tool["function"]["name"] for tool in first.tools] == ["add", "divide", "sum_numbers", "sqrt"]
    assert "no traces: there is nothing to imitate" in done.notes[-1]
    # Three rows with one source text: it stands once.
    assert [
        len(json.loads((tmp_path / "mentor/tools.json").read_text())[key]) for key in ("tools", "sources")
    ] == [4, 1]
    success, outputs = play(
        done, first.id, call("add", a=2, b=7), call("sqrt", x=9), call("divide", a=1, b=0), "<answer>3</answer>"
    )
    assert success
    assert outputs[:2] == ["<tool_response>9</tool_response>", "<tool_response>3.0</tool_response>"]
    assert outputs[2] == ("<tool_response>error: divide: ValueError: Cannot divide by zero.</tool_response>")


def test_xlam(tmp_path):
    first, second, third = tasks_of(import_file("xlam", SAMPLES["xlam"], tmp_path / "xlam"))
    # The flat parameters have become a JSON schema, the types those of JSON.
    assert first.tools[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"description": "Name of the city.", "type": "string"},
            "unit": {"description": "C or F.", "type": "string", "default": "C"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert first.grader["expected"] == [
        'get_weather {"city": "Lima", "unit": "F"}',
        'get_weather {"city": "Oslo", "unit": "F"}',
    ]
    assert first.meta == {"kind": "parallel", "calls": 2, "source_id": "0", "final": "added"}
    assert second.tools[0]["function"]["parameters"]["properties"]["lst"]["items"] == {"type": "integer"}
    assert third.tools[0]["function"]["parameters"]["required"] == ["q"]


def test_toolace(tmp_path):
    done = import_file("toolace", SAMPLES["toolace"], tmp_path / "toolace")
    first, second = tasks_of(done)
    assert [tool["function"]["name"] for tool in first.tools] == ["Market_Trends_API", "time_now"]
    assert first.state["calls"] == [
        {
            "name": "Market_Trends_API",
            "arguments": {"trend_type": "INDEXES", "top": 2},
            "result": '{"up": ["A (1)", "B"]}',
        },
        {"name": "time_now", "arguments": {"zone": "Asia/Tokyo"}, "result": "09:30"},
    ]
    # What the user says next, and the call that answers it, are left out.
    assert first.meta["cut"] is True
    assert done.notes == ("conversations that go on after their first answer, whose rest is left out: 1",)
    assert second.state["calls"][0]["result"] is None
    assert done.dropped == (
        f"{SAMPLES['toolace']}, line 44 (row 3): "
        "nothing to grade: no call, and no answer marked with <answer></answer>",
    )


def test_hermes(tmp_path):
    first, second = tasks_of(import_file("hermes", SAMPLES["hermes"], tmp_path / "hermes"))
    assert [item["result"] for item in first.state["calls"]] == ['{"usd": 12.5}', "11.2"]
    assert first.teacher[0]["content"] == "<scratch_pad>First the price.</scratch_pad>"
    assert first.teacher[-1]["content"] == "<answer>A share of FERN costs 11.20 euros.</answer>"
    assert "function calling AI model" not in first.prompt
    # Calls that were written as Python dictionaries.
    assert [item["arguments"] for item in second.state["calls"]] == [{"symbol": "FERN"}, {"symbol": "MOSS"}]
    assert second.meta["category"] == "Finance"


def test_hermes_rows_that_differ_a_little(tmp_path):
    row = rows_of("hermes")[0]
    row["conversations"][3]["value"] = "<tool_response>\n<tool_response>\n12.5\n</tool_response>\n</tool_response>"
    row["conversations"][5]["value"] = "11.2"
    # One schema a line, as the prompt of later models has it.
    tools = json.loads(rows_of("hermes")[1]["tools"])
    listed = "\n".join(json.dumps(tool) for tool in tools)
    row["conversations"][0]["value"] = f"Signatures are within <tools> </tools>.\n<tools>\n{listed}\n</tools>"
    task = tasks_of(import_file("hermes", lines(tmp_path / "rows.jsonl", [row]), tmp_path / "set"))[0]
    assert [item["result"] for item in task.state["calls"]] == ["12.5", "11.2"]
    assert [tool["function"]["name"] for tool in task.tools] == ["get_stock_price", "convert"]


@pytest.mark.parametrize(
    ("sender", "unit"),
    [
        ("system", "<tools>"),
        ("gpt", "<tool_call>"),
        ("tool", "<tool_response>"),
        ("gpt", "<tool_call></tool_call"),
    ],
)
def test_hermes_tags_that_are_never_closed_take_linear_time(sender, unit):
    said = [{"from": "human", "value": "Time?"}, {"from": sender, "value": unit * 200_000}]
    start = time.process_time()
    chat = hermes.read("here", {"conversations": said})
    # Searching for the end from every opening tag takes many minutes.
    assert time.process_time() - start < 2
    assert not any(message.get("tool_calls") for message in chat.messages)


def test_hermes_tags_are_read_like_pairs():
    assert hermes._tagged("a<t>b<t>c</t>d</t>e<t>f</t>g<t>h", "t") == (["b<t>c", "f"], "ad</t>eg<t>h")


def test_the_form_of_openai_before_tools_is_read(tmp_path):
    now = rows_of("openai")[1]
    (said,) = [message for message in now["messages"] if message.get("tool_calls")]
    (made,) = said["tool_calls"]
    old = {
        "messages": [
            {"role": "assistant", "content": None, "function_call": made["function"]}
            if message is said
            else {"role": "function", "name": made["function"]["name"], "content": message["content"]}
            if message["role"] == "tool"
            else message
            for message in now["messages"]
        ],
        "functions": [tool["function"] for tool in now["tools"]],
    }
    tasks = []
    for name, row in (("old", old), ("now", {**now, "tools": old["functions"]})):
        done = import_file("openai", lines(tmp_path / f"{name}.jsonl", [row]), tmp_path / name, name="set")
        tasks += tasks_of(done)
    for key in ("prompt", "tools", "answer", "grader", "state"):
        assert getattr(tasks[0], key) == getattr(tasks[1], key)
    assert tasks[0].state["calls"]
    broken_list = lines(tmp_path / "broken.jsonl", [{**old, "functions": [7]}])
    with pytest.raises(DataError, match=r'field "functions\[0\]": expected an object, got 7'):
        import_file("openai", broken_list, tmp_path / "broken")


def test_openai(tmp_path):
    first, second, third = tasks_of(import_file("openai", SAMPLES["openai"], tmp_path / "openai"))
    assert first.prompt == "You plan trips. Today is 4 May.\n\nWhen does the next train to Bergen leave?"
    assert first.tools == rows_of("openai")[0]["tools"]
    assert (second.answer, second.grader) == ("42", {"kind": "number"})
    assert (third.answer, third.meta["final"]) == ("done", "added")


@pytest.mark.parametrize(
    ("grade", "graders"), [("auto", ["state", "number"]), ("calls", ["state"] * 2), ("answer", ["text", "number"])]
)
def test_the_user_chooses_what_is_graded(tmp_path, grade, graders):
    source = lines(tmp_path / "chat.jsonl", rows_of("openai")[:2])
    done = import_file("openai", source, tmp_path / "set", grade=grade)
    assert [task.grader["kind"] for task in tasks_of(done)] == graders


@needs_arrow
@pytest.mark.parametrize("form", ["structs", "texts"])
def test_a_parquet_file_is_read_like_its_rows(tmp_path, form):
    import pyarrow
    from pyarrow import parquet

    rows = rows_of("mentor")
    for row in rows:
        # The columns of the released code: nested, or JSON texts.
        row["reward_model"] = json.dumps(row["reward_model"]) if form == "texts" else row["reward_model"]
        if form == "structs":
            # Arrow gives every schema the fields of all; what a schema lacks comes back as null.
            row["extra_info"]["func_schemas"] = json.loads(row["extra_info"]["func_schemas"])
        else:
            row["extra_info"] = json.dumps(row["extra_info"])
            row["tool_calls_used"] = json.dumps(row["tool_calls_used"])
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    done = import_file("mentor", tmp_path / "train.parquet", tmp_path / "a", name="m")
    same = import_file("mentor", SAMPLES["mentor"], tmp_path / "b", name="m")
    assert done.suite.with_name("train.jsonl").read_bytes() == same.suite.with_name("train.jsonl").read_bytes()


def test_the_same_file_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        import_file("toolace", SAMPLES["toolace"], tmp_path / name, name="t")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["suite.yaml", "tools.json", "tools.py", "train.jsonl"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    # What was in the making is gone.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_splits_limit_and_seed(tmp_path):
    rows = [{**rows_of("xlam")[1], "id": number, "query": f"Question {number}?"} for number in range(40)]
    source = lines(tmp_path / "calls.jsonl", rows)

    def prompts(folder, **arguments):
        done = import_file("xlam", source, tmp_path / folder, **arguments)
        return [task.prompt for task in tasks_of(done, next(iter(done.rows)))]

    assert prompts("a", limit=3, split="dev") == ["Question 0?", "Question 1?", "Question 2?"]
    drawn = prompts("b", limit=3, seed=1)
    assert drawn == prompts("c", limit=3, seed=1) != prompts("d", limit=3, seed=2)
    assert len(set(drawn)) == 3
    done = import_file("xlam", {"train": source, "test": SAMPLES["xlam"]}, tmp_path / "e")
    assert done.rows == {"train": 40, "test": 3}
    steps = []
    import_file("xlam", source, tmp_path / "f", limit=2, progress=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]


def test_limit_reads_no_more_rows(tmp_path):
    source = lines(tmp_path / "calls.jsonl", [rows_of("xlam")[0], {"broken": 1}])
    with source.open("a") as file:
        file.write("{")
    assert import_file("xlam", source, tmp_path / "set", limit=1).rows == {"train": 1}


# How it is graded


def test_recorded_tools_answer_only_what_was_recorded(tmp_path):
    done = import_file("openai", SAMPLES["openai"], tmp_path / "set")
    task = tasks_of(done)[0].id
    train, weather = call("next_train", to="Bergen"), call("weather", day=4, city="Bergen")
    bye = "<answer>08:25</answer>"
    success, outputs = play(done, task, call("next_train", to="Oslo"), weather, train, train, bye)
    assert outputs[0] == (
        "<tool_response>error: next_train: no recorded result for these arguments</tool_response>"
    )
    assert outputs[2] == outputs[3] == "<tool_response>08:25, platform 3</tool_response>"
    # Neither the failed call nor the one that was made twice counts, nor does the order.
    assert success
    assert not play(done, task, train, bye)[0]
    assert not play(done, task, bye)[0]


def test_without_results_every_call_counts(tmp_path):
    done = import_file("xlam", SAMPLES["xlam"], tmp_path / "set")
    task = tasks_of(done)[0].id
    oslo, lima = call("get_weather", unit="F", city="Oslo"), call("get_weather", city="Lima", unit="F")
    bye = "<answer>done</answer>"
    success, outputs = play(done, task, oslo + lima, bye)
    assert success
    assert outputs[0] == f"<tool_response>{ACCEPTED}</tool_response>\n<tool_response>{ACCEPTED}</tool_response>"
    wrong = call("get_weather", city="Rome", unit="F")
    # A wrong call is answered like a right one: nothing to learn from it.
    assert play(done, task, wrong, bye)[1][0] == f"<tool_response>{ACCEPTED}</tool_response>"
    for calls in (oslo, oslo + lima + wrong, oslo + lima + lima, oslo + call("get_weather", city="Lima")):
        assert not play(done, task, calls, bye)[0]
    # What the schema refuses is an error and was not made.
    assert play(done, task, call("get_weather", city=7), oslo + lima, bye)[0]


def test_without_recorded_calls_no_call_is_answered(tmp_path):
    row = chat(USER, {"role": "assistant", "content": "<answer>42</answer>"})
    done = import_file("openai", lines(tmp_path / "rows.jsonl", [row]), tmp_path / "set")
    success, outputs = play(done, tasks_of(done)[0].id, call("multiply", a=6, b=7), "<answer>42.0</answer>")
    assert success
    assert "no recorded result" in outputs[0]


def test_an_argument_that_equals_its_default_counts_as_left_out(tmp_path):
    done = import_file("openai", SAMPLES["openai"], tmp_path / "set")
    task = tasks_of(done)[2].id
    assert play(done, task, call("remind", text="water the plants", at="tomorrow"), "<answer>ok</answer>")[0]
    assert not play(done, task, call("remind", text="water the plants", at="today"), "<answer>ok</answer>")[0]


def test_two_rows_may_mean_different_tools_by_one_name(tmp_path):
    done = import_file("xlam", SAMPLES["xlam"], tmp_path / "set")
    first, _, third = (task.id for task in tasks_of(done))
    env = gym.make("MentorTool-v0", suite=str(done.suite)).unwrapped
    for task, argument, described in ((first, "city", "weather of a city"), (third, "q", "Another weather")) * 2:
        observation, _ = env.reset(options={"task_id": task})
        assert described in observation
        good, bad = ({"city": "Rome"}, {"q": "Rome"}) if argument == "city" else ({"q": "Rome"}, {"city": "Rome"})
        assert "error" in env.step(call("get_weather", **bad))[0]
        assert env.step(call("get_weather", **good))[0] == f"<tool_response>{ACCEPTED}</tool_response>"


def test_results_of_a_repeated_call_come_in_order_and_survive_a_restore():
    schema = function_schema({"name": "poll", "parameters": {"job": {"type": "int"}}}, "here")
    state = {
        "tools": [0],
        "calls": [{"name": "poll", "arguments": {"job": 1}, "result": text} for text in ("waiting", "ready")],
    }
    catalogue = Catalogue([schema])
    box, other = RecordedBox(catalogue), RecordedBox(catalogue)
    box.open(state)
    other.open(state)
    assert box.tools["poll"].call({"job": 1}).output == "waiting"
    assert box.final_state() == ['poll {"job": 1}']
    snapshot = box.snapshot()
    assert [box.tools["poll"].call({"job": 1.0}).output for _ in range(2)] == ["ready", "ready"]
    assert box.final_state() == ['poll {"job": 1}'] * 2
    # Boxes of one catalogue share nothing that changes.
    assert other.snapshot() == b"[]"
    other.restore(snapshot)
    assert other.tools["poll"].call({"job": 1}).output == "ready"
    for broken in (b"", b"{}", b"[1]", b"\xff"):
        with pytest.raises(ValueError, match="JSON list of calls"):
            other.restore(broken)


@pytest.mark.parametrize(
    "state",
    [{}, {"tools": [1], "calls": []}, {"tools": [True], "calls": []}, {"tools": [0], "calls": [{"name": "poll"}]},
     {"tools": [0], "calls": [{"name": "gone", "arguments": {}, "result": None}]},
     {"tools": [0], "calls": [], "x": 1}],
)  # fmt: skip
def test_a_state_that_is_none_is_refused(state):
    schema = function_schema({"name": "poll"}, "here")
    with pytest.raises(ValueError, match="state of"):
        RecordedBox(Catalogue([schema])).open(state or {"x": 1})
    with pytest.raises(ValueError, match="state of"):
        SourceBox(Catalogue([schema], ["def poll(): pass"])).open({**state, "source": 5})


def test_an_episode_goes_on_in_a_clone(tmp_path):
    for name, first, second, reply in (
        ("openai", call("next_train", to="Bergen"), call("weather", city="Bergen", day=4), "rain"),
        ("mentor", call("add", a=1, b=2), call("sqrt", x=3), "1.7320508075688772"),
    ):
        done = import_file(name, SAMPLES[name], tmp_path / name)
        env = gym.make("MentorTool-v0", suite=str(done.suite), reward=None).unwrapped
        env.reset(options={"task_id": f"{name}-train-000000"})
        env.step(first)
        twin = env.clone()
        assert twin.step(second)[0] == env.step(second)[0] == f"<tool_response>{reply}</tool_response>"
        assert twin.get_state() == env.get_state()
        answer = "<answer>3</answer>"
        assert twin.step(answer)[1] == env.step(answer)[1] == 1.0


# Source texts


def with_source(source, **changes):
    row = copy.deepcopy(rows_of("mentor")[0])
    names = changes.pop("names", ["add"])
    row["extra_info"] |= {
        "env": source,
        "func_schemas": [{"name": name, "parameters": {"a": {"type": "float"}}} for name in names],
        "index": changes.pop("index", 7),
    }
    return {**row, **changes}


def test_a_source_text_never_runs_in_this_process(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    hostile = [
        f"open({str(marker)!r}, 'w').write('x')\ndef add(a): return a",
        f"import os\nos.system('touch {marker}')\ndef add(a): return a",
        f"import pathlib\npathlib.Path({str(marker)!r}).write_text('x')\ndef add(a): return a",
        "import sys\nsys.modules['mentor_gym'].hacked = True\ndef add(a): return a",
        "while True: pass",
        "def add(a): return a\nraise SystemExit",
        "import requests\ndef add(a): return a",
        "def add(a) return a",
        "def other(a): return a",
    ]
    rows = [with_source(source, index=i) for i, source in enumerate(hostile)]
    good = with_source("def add(a):\n    return a + 1", index=99)
    done = import_file("mentor", lines(tmp_path / "rows.jsonl", [*rows, good]), tmp_path / "set")
    assert done.rows == {"train": 1}
    assert len(done.dropped) == len(hostile)
    assert all("its source does not run in the sandbox: " in line for line in done.dropped[:-1])
    assert done.dropped[-1].endswith("line 9: its source has no function add")
    assert "computes too long" in done.dropped[4]
    assert not marker.exists()
    assert not hasattr(mentor_gym, "hacked")
    # A source that behaves when it is tried and not when it is called.
    late = with_source(f"def add(a):\n    return open({str(marker)!r}, 'w')")
    done = import_file("mentor", lines(tmp_path / "late.jsonl", [late]), tmp_path / "late")
    _, outputs = play(done, tasks_of(done)[0].id, call("add", a=1))
    assert outputs[0].startswith("<tool_response>error: add: ")
    assert not marker.exists()
    assert str(tmp_path) not in outputs[0].replace(str(marker), "")


def test_a_call_changes_nothing_for_later_calls(tmp_path):
    source = "seen = []\ndef add(a):\n    seen.append(a)\n    print('called')\n    return len(seen)"
    done = import_file("mentor", lines(tmp_path / "rows.jsonl", [with_source(source)]), tmp_path / "set")
    task = tasks_of(done)[0].id
    _, outputs = play(done, task, *[call("add", a=number) for number in range(3)])
    assert outputs == ["<tool_response>called\n1</tool_response>"] * 3


def test_arguments_are_values_and_no_program(tmp_path):
    source = "def add(a):\n    return a"
    row = with_source(source)
    row["extra_info"]["func_schemas"] = [{"name": "add", "parameters": {"a": {"type": "any"}}}]
    done = import_file("mentor", lines(tmp_path / "rows.jsonl", [row]), tmp_path / "set")
    values = ["'); print('x", "\\", '"""', [1, {"b": None}], True, 1e300, "é"]
    _, outputs = play(done, tasks_of(done)[0].id, *[call("add", a=value) for value in values])
    assert outputs == [f"<tool_response>{value}</tool_response>" for value in values]


@pytest.mark.parametrize(
    ("names", "reason"),
    [([], "it offers no tools"), (["add", "add"], "the same name"), (["2add"], "its source has no function _2add"),
     (["class"], "'class' cannot be a Python function"), (["a-b"], "'a-b' cannot be a Python function")],
)  # fmt: skip
def test_tools_that_are_no_functions_are_left_out(tmp_path, names, reason):
    rows = [with_source("def add(a): return a", names=names), rows_of("mentor")[0]]
    done = import_file("mentor", lines(tmp_path / "rows.jsonl", rows), tmp_path / "set")
    assert len(done.dropped) == 1
    assert reason in done.dropped[0]


# Broken rows


def broken(name, index=1, **changes):
    row = {**copy.deepcopy(rows_of(name)[index]), **changes}
    return {field: value for field, value in row.items() if value is not ...}


def chat(*messages, tools=None):
    return {"messages": list(messages), "tools": rows_of("openai")[1]["tools"] if tools is None else tools}


def assistant(**function):
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }


def truth(value):
    return broken("mentor", reward_model={"ground_truth": value})


def extra(**fields):
    return broken("mentor", extra_info=fields)


def tool(**fields):
    return broken("xlam", tools=[fields])


def said(name, value):
    first, sender = ("user", "assistant") if name == "toolace" else ("human", "gpt")
    return broken(name, conversations=[{"from": first, "value": "x"}, {"from": sender, "value": value}])


def nested(levels):
    """Return lists in each other."""
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def called(value):
    return broken("xlam", answers=[{"name": "f", "arguments": {"a": value}}])


USER = {"role": "user", "content": "6 times 7?"}
TWICE = 'the key "name" stands twice in one object'
BROKEN = [
    ("mentor", broken("mentor", question=...), 'field "question" is missing'),
    ("mentor", broken("mentor", question=7), 'field "question": expected a text that is not blank, got 7'),
    ("mentor", broken("mentor", reward_model=...), 'field "reward_model" is missing'),
    ("mentor", broken("mentor", reward_model="{"), 'field "reward_model": not JSON: '),
    ("mentor", broken("mentor", reward_model=[]), 'field "reward_model": expected an object, got a list'),
    ("mentor", truth(None), 'field "reward_model.ground_truth": expected a text'),
    ("mentor", truth([" "]), 'field "reward_model.ground_truth": expected at least one answer'),
    ("mentor", broken("mentor", extra_info=None), 'field "extra_info" is missing'),
    ("mentor", extra(env="x"), 'field "extra_info": field "func_schemas" is missing'),
    ("mentor", extra(env="x", func_schemas="[{]"), 'field "func_schemas": not JSON'),
    ("mentor", extra(env="x", func_schemas=[3]), 'field "extra_info.func_schemas[0]": expected the description'),
    ("mentor", extra(func_schemas=[]), 'field "env" is missing'),
    ("mentor", broken("mentor", tool_calls_used=[1]), 'field "tool_calls_used": expected a list of names'),
    ("mentor", rows_of("mentor")[0], "field \"id\": '0' stands twice, first in"),
    ("xlam", broken("xlam", query=...), 'field "query" is missing'),
    ("xlam", broken("xlam", query="\n"), 'field "query": expected a text that is not blank'),
    ("xlam", broken("xlam", tools="[{"), 'field "tools": not JSON'),
    ("xlam", broken("xlam", tools="{}"), 'field "tools": expected a list, got an object'),
    ("xlam", tool(description="x"), 'field "tools[0]": name: expected a text that is not blank'),
    ("xlam", tool(name="f", parameters=[]), 'field "tools[0]": parameters: expected an object, got a list'),
    ("xlam", tool(name="f", description=1), 'field "tools[0]": description: expected a text, got 1'),
    ("xlam", tool(name="f", parameters={"a": {"minimum": "x"}}), "parameters of 'f': not a JSON schema"),
    ("xlam", broken("xlam", answers=...), 'field "answers" is missing'),
    ("xlam", broken("xlam", answers="nothing"), 'field "answers": not JSON'),
    ("xlam", broken("xlam", answers="[NaN]"), 'field "answers": not JSON: NaN is no number of JSON'),
    ("xlam", broken("xlam", answers=f"[{2**64}]"), 'not JSON: a whole number of more than 64 bits'),
    ("xlam", broken("xlam", answers=["f()"]), 'field "answers[0]": expected an object, got \'f()\''),
    ("xlam", broken("xlam", answers=[{"arguments": {}}]), 'field "answers[0]": name: expected a text'),
    ("xlam", broken("xlam", answers=[{"name": "f", "arguments": []}]), "expected an object, got a list"),
    ("xlam", broken("xlam", id=0), "field \"id\": '0' stands twice, first in"),
    ("toolace", broken("toolace", system=...), 'field "system" is missing'),
    ("toolace", broken("toolace", system='Functions: [{"name": "f"'), 'field "system": the list of tools is not'),
    ("toolace", broken("toolace", conversations="x"), 'field "conversations": not JSON'),
    ("toolace", broken("toolace", conversations=[7]), 'field "conversations[0]": expected an object, got 7'),
    ("toolace", broken("toolace", conversations=[{"from": "me"}]), "from: expected one of user, assistant, tool"),
    ("toolace", broken("toolace", conversations=[{"from": "user"}]), "value: expected a text, got null"),
    ("toolace", said("toolace", "[f(1)]"), 'field "conversations[1]": arguments of f: arguments must be named'),
    ("toolace", said("toolace", "[f(a=open('x'))]"), "\"open('x')\" is no plain value"),
    ("hermes", broken("hermes", conversations=...), 'field "conversations" is missing'),
    ("hermes", broken("hermes", conversations=[{"from": "robot"}]), "from: expected one of system, human"),
    ("hermes", broken("hermes", tools="[{'name'"), 'field "tools": not JSON'),
    ("hermes", said("hermes", "<tool_call>{x}</tool_call>"), 'field "conversations[1]": <tool_call> 0: not JSON'),
    ("hermes", said("hermes", "<tool_call>[1]</tool_call>"), "<tool_call> 0: expected an object, got a list"),
    ("hermes", said("hermes", "<tool_call>{'arguments': {1}}</tool_call>"), "<tool_call> 0: not JSON"),
    ("hermes", broken("hermes", id="a1"), "field \"id\": 'a1' stands twice, first in"),
    ("openai", broken("openai", messages=...), 'field "messages" is missing'),
    ("openai", broken("openai", messages=[1]), 'field "messages[0]": expected an object, got 1'),
    ("openai", broken("openai", tools=7), 'field "tools": expected a list, got 7'),
    ("openai", broken("openai", tools=[{"type": "function"}]), 'field "tools[0]": name: expected a text'),
    ("openai", chat({"role": "robot", "content": "x"}), 'field "messages[0]": role: expected one of system,'),
    ("openai", chat({"role": {}, "content": "x"}), 'role: expected one of system,'),
    ("openai", chat({"role": "user"}), 'field "messages[0]": content is missing'),
    ("openai", chat({"role": "user", "content": [{"type": "image_url"}]}), "content: expected a text, got a list"),
    ("openai", chat(USER, {"role": "assistant", "content": None}), "expected content or tool_calls"),
    ("openai", chat(USER, assistant(name="multiply", arguments="{'a': 1}")), "tool_calls[0]: arguments: not JSON"),
    ("openai", chat(USER, assistant(name="multiply")), "tool_calls[0]: arguments: expected an object, got null"),
    ("openai", chat(USER, assistant(arguments="{}")), "tool_calls[0]: name: expected a text that is not blank"),
    ("openai", chat(USER, {"role": "assistant", "tool_calls": 7}), "tool_calls: expected a list, got 7"),
    ("openai", chat(tools=[{"name": "f", "parameters": {"$defs": {"a": {"$ref": "x"}}}}]), "only to itself"),
    ("openai", ["no", "object"], "expected an object, got a list"),
    # Arguments: the object of the call and their own are two levels of the 32.
    ("xlam", called(nested(31)), 'field "answers[0]": arguments: nested deeper than a call of 32 levels may be'),
    ("xlam", called(nested(900)), 'field "answers[0]": arguments: nested deeper than a call of 32 levels may be'),
    ("openai", chat(USER, tools=[{"name": "f", "x": nested(900)}]), 'field "tools[0]": nested deeper than 64'),
    ("xlam", broken("xlam", answers='[{"name": "f", "name": "g"}]'), f'field "answers": {TWICE}'),
    ("toolace", broken("toolace", system='[{"name": "f", "name": "g"}]'), f'field "system": {TWICE}'),
    ("toolace", said("toolace", "[f(a={'name': 1, 'name': 2})]"), f"arguments of f: {TWICE}"),
    ("hermes", said("hermes", '<tool_call>{"name": "f", "name": "g"}</tool_call>'), f"<tool_call> 0: {TWICE}"),
    ("hermes", said("hermes", "<tool_call>{'name': 'f', 'name': 'g'}</tool_call>"), f"<tool_call> 0: {TWICE}"),
    ("openai", chat(USER, assistant(name="f", arguments='{"name": 1, "name": 2}')), f"[0]: arguments: {TWICE}"),
    ("openai", chat(USER, {"role": "assistant", "function_call": 7}), "function: expected an object, got 7"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "message"), BROKEN)
def test_a_broken_row_is_named_or_left_out(tmp_path, name, row, message):
    first = rows_of(name)[0]
    source = lines(tmp_path / "rows.jsonl", [first, row])
    with pytest.raises(DataError) as caught:
        import_file(name, source, tmp_path / "set")
    assert str(caught.value).startswith(f"{source}, line 2: ")
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    done = import_file(name, source, tmp_path / "set", skip_broken=True)
    assert (done.rows, done.dropped) == ({"train": 1}, (str(caught.value),))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b"", "holds no rows"),
        ("x.json", b"[]", "holds no rows"),
        ("x.json", b'[{"query": "Z\xfcrich"}]', "not UTF-8"),
        ("x.json", b"[" * 100_000, "not JSON: nested too deeply"),
        ("x.jsonl", b'{"query": ', "line 1: not JSON"),
        ("x.jsonl", b'\n{"query": "a", "query": "b"}', 'line 2: the key "query" stands twice in one object'),
        ("x.json", b'\n[\n{"a": {"b": 1, "b": 2}}]', 'line 3 (row 1): the key "b" stands twice in one object'),
        ("x.json", b'[{"query": "\\ud800", "a": ' + b"[" * 900 + b"]" * 900 + b"}]", "nested too deeply"),
        ("x.csv", b"query,answers,query\na,b,c\n", 'line 1: the column "query" stands twice'),
        ("x.json", None, "cannot be read: No such file"),
        pytest.param("x.parquet", b"PAR1", "not parquet", marks=needs_arrow),
        pytest.param("x.parquet", None, "cannot be read", marks=needs_arrow),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, message):
    source = tmp_path / name
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(DataError) as caught:
        import_file("xlam", source, tmp_path / "set")
    assert str(caught.value).startswith(str(source))
    assert message in str(caught.value)
    assert not (tmp_path / "set").exists()


@needs_arrow
def test_a_column_that_stands_twice_is_named(tmp_path):
    import pyarrow
    from pyarrow import parquet

    source = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["query", "query"]), source)
    with pytest.raises(DataError, match=r'x\.parquet: the column "query" stands twice'):
        import_file("xlam", source, tmp_path / "set")


@pytest.mark.parametrize("name", ["pipe.json", "pipe.parquet"])
def test_a_named_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    program = f"from mentor_gym.importers.files import rows; from pathlib import Path; list(rows(Path({name!r})))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.splitlines()[-1].endswith(f"DataError: {name}: cannot be read: not a regular file")


def test_a_row_too_deep_for_its_converter_is_named(tmp_path):
    def convert(where, row, task_id, split):
        return convert(where, row, task_id, split)

    source = lines(tmp_path / "rows.jsonl", [{"a": 1}])
    request = Request({"train": source}, tmp_path / "set", "set")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: nested too deeply"):
        convert_rows(request, convert)
    with pytest.raises(DataError, match=r"no row became a task, for example .*line 1: nested too deeply"):
        convert_rows(replace(request, skip_broken=True), convert)


def test_a_line_that_is_not_json_can_be_left_out(tmp_path):
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(rows_of("xlam")[0]) + "\n{\n" + json.dumps(rows_of("xlam")[1]) + "\n")
    done = import_file("xlam", source, tmp_path / "set", skip_broken=True)
    assert done.rows == {"train": 2}
    assert done.dropped[0].startswith(f"{source}, line 2: not JSON")


MULTIPLY = assistant(name="multiply", arguments='{"a": 6, "b": 7}')
RESULT = {"role": "tool", "tool_call_id": "c", "content": "42"}
FINAL = {"role": "assistant", "content": "42."}
DROPPED = [
    (chat(), "does not begin with a question"),
    (chat({"role": "assistant", "content": "Hello."}), "does not begin with a question"),
    (chat({"role": "user", "content": " "}, MULTIPLY), "the question is blank"),
    (chat(USER), "nobody answers"),
    (chat(USER, FINAL), "nothing to grade"),
    (chat(USER, MULTIPLY, RESULT, FINAL, tools=[]), "it offers no tools"),
    (chat(USER, MULTIPLY, tools=[{"name": "f"}, {"name": "f", "description": "x"}]), "two tools are called 'f'"),
    (chat(USER, assistant(name="divide", arguments="{}")), "the call of divide is of a tool that is not offered"),
    (chat(USER, RESULT, FINAL), "a result stands before any call"),
    (chat(USER, MULTIPLY, RESULT, RESULT, FINAL), "1 calls have 2 results"),
    (chat(USER, MULTIPLY, FINAL), "calls without results are followed by more"),
    (chat(USER, FINAL, MULTIPLY), "an answer is followed by more"),
    (chat(USER, assistant(name="multiply", arguments='{"a": 1e999}')), "arguments of multiply are not strict"),
    (chat(USER, assistant(name="multiply", arguments='{"a": "6", "b": 7}')), 'multiply fails: error: multiply'),
    (chat(USER, assistant(name="multiply", arguments='{"a": 6}'), RESULT), '"b" is a required property'),
    (chat(USER, MULTIPLY, RESULT, {"role": "assistant", "content": "x" * 30_000}), "turns do not succeed"),
    (chat(USER, {"role": "assistant", "content": "<answer>?!</answer>"}), "'?!' has no words to compare"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), DROPPED)
def test_a_row_that_is_no_task_is_left_out_with_its_reason(tmp_path, row, reason):
    source = lines(tmp_path / "rows.jsonl", [row, rows_of("openai")[0]])
    done = import_file("openai", source, tmp_path / "set")
    assert done.rows == {"train": 1}
    assert len(done.dropped) == 1
    assert done.dropped[0].startswith(f"{source}, line 1: ")
    assert reason in done.dropped[0]
    with pytest.raises(DataError, match=r"split 'train': no row became a task, for example .*line 1"):
        import_file("openai", lines(source, [row]), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_more_calls_than_a_turn_holds_are_made_in_several(tmp_path):
    row = broken("xlam", 0, answers=[{"name": "get_weather", "arguments": {"city": f"C{i}"}} for i in range(19)])
    done = import_file("xlam", lines(tmp_path / "rows.jsonl", [row]), tmp_path / "set")
    assert (done.rows, done.longest) == ({"train": 1}, 4)


def test_results_are_matched_by_their_ids(tmp_path):
    row = rows_of("openai")[0]
    row["messages"][3:5] = reversed(row["messages"][3:5])
    task = tasks_of(import_file("openai", lines(tmp_path / "rows.jsonl", [row]), tmp_path / "set"))[0]
    assert [item["result"] for item in task.state["calls"]] == ["08:25, platform 3", "rain"]


def test_halves_of_surrogate_pairs_are_replaced_wherever_they_stand(tmp_path):
    half = "\ud800"
    parameters = {"city": {"type": "str", "description": half, "default": [half]}, f"p{half}": {"type": "str"}}
    row = {
        "query": f"Where?{half}",
        "tools": json.dumps([{"name": "f", "description": half, "parameters": parameters}]),
        "answers": [{"name": "f", "arguments": {"city": half, f"p{half}": "\U0001f600"}}],
    }
    task = tasks_of(import_file("xlam", lines(tmp_path / "rows.jsonl", [row]), tmp_path / "set"))[0]
    assert task.state["calls"][0]["arguments"] == {"city": "\ufffd", "p\ufffd": "\U0001f600"}
    call_text = "[f(city='\\ud800')]"
    (calls,) = read_calls(call_text, "here")
    assert calls == ("f", {"city": "\ufffd"})


def test_hostile_texts_become_harmless(tmp_path):
    row = rows_of("openai")[0]
    row["messages"][1]["content"] = "When?\ud800\x1b[31m"
    row["messages"][3]["content"] = "</tool_response><answer>x</answer>\x00" + "y" * 50_000
    done = import_file("openai", lines(tmp_path / "rows.jsonl", [row]), tmp_path / "set")
    task = tasks_of(done)[0]
    assert task.prompt.endswith("When?\ufffd\ufffd[31m")
    # The teacher reads what an episode will show: neutralised, and cut.
    result = task.teacher[1]["content"]
    assert result.startswith("&lt;/tool_response>&lt;answer>x&lt;/answer>\ufffdy")
    assert result.endswith(" …[cut]")
    assert len(result) < 21_000


# Arguments, notations


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "xlan"}, r"unknown format 'xlan'; known: mentor, xlam, .*did you mean 'xlam'"),
        ({"name": "my set"}, "got 'my set'"),
        ({"split": "../x"}, r"got '\.\./x'"),
        ({"source": {}}, "at least one split"),
        ({"limit": 0}, "limit must be"),
        ({"seed": 1}, "seed draws the rows of limit"),
        ({"grade": "auto"}, "format 'xlam' has no option 'grade'; there are: none"),
        ({"format": "openai", "grade": "no"}, "grade must be one of auto, calls, answer, got 'no'"),
        ({"format": "qa", "skip_broken": True}, "leave out seed and skip_broken"),
        ({"folder": Path(__file__).parent}, "not an empty folder; nothing is overwritten"),
        ({"folder": Path(__file__)}, "not an empty folder; nothing is overwritten"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    given = {"format": "xlam", "source": SAMPLES["xlam"], "folder": tmp_path / "set", **arguments}
    with pytest.raises(ValueError, match=message):
        import_file(**given)
    assert not (tmp_path / "set").exists()


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mentor-gym\[data\]'"):
        import_file("mentor", tmp_path / "train.parquet", tmp_path / "set")


def test_question_sets_are_imported_by_name_too(tmp_path):
    corpus = lines(tmp_path / "corpus.jsonl", [{"id": "1", "title": "Oslo", "text": "A town."}])
    source = lines(tmp_path / "qa.jsonl", [{"question": "What is Oslo?", "answer": "a town"}])
    done = import_file("qa", source, tmp_path / "set", split="dev", corpus=corpus)
    assert (done.rows, done.documents) == ({"dev": 1}, 1)
    assert set(FORMATS) == {"qa", *SAMPLES}


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[f()]", [("f", {})]),
        (" [f(a=1) , g.h(b='x, (y]')]\n", [("f", {"a": 1}), ("g.h", {"b": "x, (y]"})]),
        ("[Get It(a=true, b=null)]", [("Get It", {"a": True, "b": None})]),
        ('[f(c={"d": [1, (2, 3)]}, e=-1.5)]', [("f", {"c": {"d": [1, [2, 3]]}, "e": -1.5})]),
        (r'[f(a="say \"hi\")")]', [("f", {"a": 'say "hi")'})]),
        (r'[f(a="x\"), g()"), h()]', [("f", {"a": 'x"), g()'}), ("h", {})]),
        ("[f(a=[])]", [("f", {"a": []})]),
    ],
)  # fmt: skip
def test_calls_of_toolace(text, calls):
    assert list(read_calls(text, "here")) == calls


@pytest.mark.parametrize(
    "text",
    ["[]", "[f]", "[f(]", "[f()", "[f() g()]", "[f(),]", "[f(a)]", "[f(a=1, a=2)]", "[f(**{'a': 1})]", "[f(a=b)]",
     "[f(a=__import__('os'))]", "[f(a=1)]x", "[f(a={1})]", "[f(a={1: 2})]",
     "[f(a=b'x')]", "[f(a='x)]", "[f(a=\x00)]",
     "[f(a=" + "(" * 5_000 + ")]", "[f(a=" + "-" * 9_000 + "1)]", "[" + "f(" * 30_000],
)  # fmt: skip
def test_what_are_no_calls_of_toolace(text):
    with pytest.raises(DataError, match=r"^here: "):
        list(read_calls(text, "here"))


@pytest.mark.parametrize(
    ("written", "schema"),
    [
        ("str", {"type": "string"}),
        ("int, optional", {"type": "integer"}),
        ("Optional[float]", {"type": "number"}),
        ("List[List[str]]", {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}),
        ("Dict[str, int]", {"type": "object"}),
        ("Tuple[int, int]", {"type": "array"}),
        ("dict", {"type": "object"}),
        (["string", "null"], {"type": ["string", "null"]}),
        ("any", {}),
        ("Union[int, str]", {}),
        (7, {}),
    ],
)
def test_types_become_those_of_json(written, schema):
    raw = {
        "name": "f",
        "parameters": {"type": "dict", "properties": {"x": {"type": written}}, "required": ["x", "y"]},
    }
    parameters = function_schema(raw, "here")["function"]["parameters"]
    assert parameters["properties"] == {"x": schema}
    assert parameters["required"] == ["x"]


@pytest.mark.parametrize(
    ("argument", "required"),
    [
        ({"type": "str"}, True),
        ({"type": "str, optional"}, False),
        ({"type": "Optional[str]"}, False),
        ({"type": "str", "default": "x"}, False),
        ({"type": "str", "default": "x", "required": True}, True),
        ({"type": "str", "required": False}, False),
    ],
)
def test_a_flat_argument_says_whether_it_is_required(argument, required):
    parameters = function_schema({"name": "f", "parameters": {"x": argument}}, "here")["function"]["parameters"]
    assert parameters["required"] == (["x"] if required else [])


def test_fields_that_a_parquet_file_adds_are_dropped():
    raw = {"properties": {"x": {"type": "number", "items": None, "default": None}, "y": None}, "required": None}
    parameters = function_schema({"name": "f", "description": None, "parameters": raw}, "here")["function"][
        "parameters"
    ]
    assert parameters["properties"] == {"x": {"type": "number", "default": None}}


def test_names_fit_the_wire_format():
    names = ["Market Trends API", "2d.area", "größe", "x" * 99, "_"]
    assert [tool_name(name) for name in names] == ["Market_Trends_API", "_2d_area", "gr__e", "x" * 64, "_"]


def test_a_folder_can_be_moved(tmp_path):
    done = import_file("openai", SAMPLES["openai"], tmp_path / "set")
    shutil.move(done.suite.parent, tmp_path / "elsewhere")
    suite = load_yaml_suite(str(tmp_path / "elsewhere" / "suite.yaml"))
    assert all(transcript.is_success for transcript in play_teachers(suite, "train"))
