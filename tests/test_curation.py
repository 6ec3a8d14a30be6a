"""Statistics of task rows, and seeded splits of them."""

import json

import msgspec
import pytest
import yaml

from mentor_gym.curation import Overlap, Source, Spread, read_source, split_rows, stats
from mentor_gym.data import DataError, write_tasks
from mentor_gym.importers.base import play_teachers
from mentor_gym.suites import EXTRA_SUITES, load_suite
from mentor_gym.suites.base import load_yaml_suite
from mentor_gym.suites.bfcl_suite import EvaluationSuite
from mentor_gym.suites.plans import teacher_messages
from mentor_gym.types import Task


def task(number, prompt=None, tools=("add",), split="train", calls=1, kind="sum", **meta):
    steps = [("add", {"a": i, "b": 1}, str(i + 1)) for i in range(calls)]
    return Task(
        id=f"t{number}",
        suite="math",
        split=split,
        prompt=prompt or f"Question {number}?",
        tools=list(tools),
        answer=str(calls),
        grader={"kind": "number"},
        state=None,
        teacher=teacher_messages(steps, str(calls)) if calls else [],
        meta={"kind": kind, **meta},
    )


def source_of(*tasks):
    splits = {}
    for item in tasks:
        splits.setdefault(item.split, []).append(item)
    return Source("mine.jsonl", splits, None)


def shared_prompts(folder, names):
    prompts = [{json.loads(x)["prompt"] for x in (folder / f"{n}.jsonl").read_text().splitlines()} for n in names]
    return set.intersection(*prompts)


# Statistics


def test_numbers_of_a_split():
    found = stats(
        source_of(
            task(1, "abcd", calls=1, level=1),
            task(2, "abcdefgh", calls=3, tools=("add", "sqrt"), level=1, town="Oslo"),
            task(3, "ABCD ", calls=0, kind="other"),
            task(4, "xyz", split="test", calls=1),
        )
    )
    train, test = found.splits
    assert (train.split, train.tasks, train.teachers) == ("train", 3, 2)
    assert train.calls == Spread(1, 2.0, 3)
    assert train.tools == {"add": 4}
    assert train.offered == Spread(1, 4 / 3, 2)
    assert train.distinct_tools == 2
    assert train.prompt_chars == Spread(4, 17 / 3, 8)
    assert train.answer_chars == Spread(1, 1.0, 1)
    assert train.graders == {"number": 3}
    assert train.kinds == {"sum": 2, "other": 1}
    assert train.meta == {"level": {"1": 2}, "town": {'"Oslo"': 1}}
    # "ABCD " asks the same as "abcd".
    assert (train.repeated, test.repeated) == (1, 0)
    assert found.overlaps == []


def test_prompts_in_two_splits_are_named():
    found = stats(
        source_of(task(1, "One  two?"), task(2), task(3, "one two?", split="test"), task(4, "Ten?", split="test"))
    )
    assert found.overlaps == [Overlap("train", "test", 1, ("t1", "t3"))]
    assert found.warnings() == ["prompts of test that stand in train too: 1, for example t3 and t1"]


def test_a_field_with_many_values_is_not_counted():
    found = stats(source_of(*(task(number, source_id=number, kind=f"k{number % 7}") for number in range(30))))
    assert found.splits[0].meta == {}
    assert len(found.splits[0].kinds) == 7
    rows = {row[0]: row[1] for row in found.table()[1]}
    assert rows["kinds"] == "k0 5, k1 5, k2 4, k3 4, k4 4, … 2 more"


def test_the_table_has_a_column_per_split():
    heads, rows = stats(read_source("math", ["train", "ood-tools"])).table()
    assert heads == ["", "train", "ood-tools"]
    assert {len(row) for row in rows} == {3}
    assert {row[0]: row[1] for row in rows}["graders"] == "number 2400"


def test_shipped_suites_do_not_share_prompts_between_train_and_test():
    assert stats(read_source("math")).overlaps == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no task rows"),
        (b"{}\n", r'line 1: field "id" is missing'),
        (b'{"id": 3}\n', r'line 1: field "id": expected str, got int'),
        (b'{"id": "a", "idd": 3}\n', r'line 1: field "idd" is unknown; known fields: id, suite'),
        (b"\n\xff\n", r"line 2: not a task row"),
        (b"[" * 100_000, r"line 1: not a task row"),
    ],
)
def test_a_broken_file_of_rows_is_named(tmp_path, content, message):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_source(tmp_path / "x.jsonl")


def test_two_rows_of_one_id_are_named(tmp_path):
    write_tasks(tmp_path / "x.jsonl", [task(1), task(2), task(1)])
    with pytest.raises(DataError, match=r"line 3: field \"id\": 't1' stands twice, first in line 1"):
        read_source(tmp_path / "x.jsonl")


@pytest.mark.parametrize("name", sorted(EXTRA_SUITES))
def test_suites_that_need_an_extra_are_sources(name, monkeypatch):
    rows = [Task("a", name, "test", "1 and 2?", [], "3", {"kind": "number"}, None, [])]
    monkeypatch.setattr(EvaluationSuite, "tasks", lambda self, split: rows)
    found = read_source(name, [load_suite(name).splits[-1]])
    assert (found.suite.name, found.suite_file) == (name, None)
    assert stats(found).splits[0].tasks > 0
    assert found.evaluation_only is load_suite(name).evaluation_only is (name != "code-full")
    with pytest.raises(ValueError, match=f"known: math, .*{name}.*; did you mean '{name}'"):
        read_source(f"{name}x")


def test_rows_of_suites_that_need_an_extra_find_them(tmp_path):
    rows = [msgspec.structs.replace(task(i), suite="bfcl") for i in range(4)]
    write_tasks(tmp_path / "x.jsonl", rows)
    found = read_source(tmp_path / "x.jsonl")
    assert (found.suite.name, found.evaluation_only) == ("bfcl", True)
    # Beside others they have no suite, and are the same rows.
    write_tasks(tmp_path / "y.jsonl", [*rows, task(9)])
    found = read_source(tmp_path / "y.jsonl")
    assert (found.suite, found.evaluation_only) == (None, True)
    write_tasks(tmp_path / "z.jsonl", [task(9)])
    assert not read_source(tmp_path / "z.jsonl").evaluation_only


# Splits


def test_a_benchmark_is_divided_only_when_it_is_wanted_and_keeps_its_mark(tmp_path):
    write_tasks(tmp_path / "x.jsonl", [msgspec.structs.replace(task(i), suite="bfcl") for i in range(4)])
    shares = {"a": 0.5, "b": 0.5}
    source = read_source(tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match=r"x\.jsonl: the tasks are a benchmark's.*--evaluation-data"):
        split_rows(source, tmp_path / "new", shares)
    assert not (tmp_path / "new").exists()
    assert split_rows(source, tmp_path / "new", shares, evaluation_data=True) == {"a": 2, "b": 2}
    # Not loaded: that needs the package, for its tools.
    content = yaml.safe_load((tmp_path / "new/suite.yaml").read_text())
    assert (content["name"], list(content["splits"]), content["evaluation_only"]) == ("bfcl", ["a", "b"], True)


def test_a_marked_suite_of_a_user_keeps_its_mark(tmp_path):
    split_rows(read_source("math", ["valid"]), tmp_path / "math", {"a": 0.5, "b": 0.5})
    file = tmp_path / "math/suite.yaml"
    assert "evaluation_only" not in file.read_text()
    file.write_text(file.read_text().replace("name: math", "name: exam") + "evaluation_only: true\n")
    for split in "ab":
        rows = file.with_name(f"{split}.jsonl")
        rows.write_text(rows.read_text().replace('"suite":"math"', '"suite":"exam"'))
    with pytest.raises(ValueError, match="the tasks are a benchmark's"):
        split_rows(read_source(file), tmp_path / "new", {"c": 0.5, "d": 0.5})
    split_rows(read_source(file), tmp_path / "new", {"c": 0.5, "d": 0.5}, evaluation_data=True)
    assert load_yaml_suite(str(tmp_path / "new/suite.yaml")).evaluation_only


@pytest.mark.parametrize("mark", ["'yes'", "1", "[]"])
def test_a_mark_that_is_neither_true_nor_false_is_refused(mark, tmp_path):
    split_rows(read_source("math", ["valid"]), tmp_path / "math", {"a": 0.5, "b": 0.5})
    file = tmp_path / "math/suite.yaml"
    file.write_text(f"evaluation_only: {mark}\n" + file.read_text())
    message = r"suite\.yaml, line 1: field \"evaluation_only\": expected true or false, got "
    with pytest.raises(DataError, match=message):
        load_yaml_suite(str(file))


def test_a_shipped_suite_takes_nothing_from_a_suite_that_lies_about(tmp_path, monkeypatch):
    (tmp_path / "suite.yaml").write_text("name: other\ntools: other.py\nsplits: {train: rows.jsonl}\n")
    (tmp_path / "private.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    split_rows(read_source("math", ["valid"]), tmp_path / "new", {"a": 0.5, "b": 0.5})
    assert load_yaml_suite(str(tmp_path / "new/suite.yaml")).name == "math"
    assert not (tmp_path / "new/private.txt").exists()


def test_conditions_that_no_task_meets_are_told_as_they_are_written():
    tasks = load_suite("math").tasks("train")
    with pytest.raises(ValueError, match=r"where: none of 2400 tasks has calls=99, kind=gain$"):
        tasks.where({"calls": 99, "kind": "gain"})
    with pytest.raises(ValueError, match=r'tasks has kind=\["a", 1\]$'):
        tasks.where({"kind": ["a", 1]})


def test_shares_are_met_and_nothing_is_lost(tmp_path):
    source = source_of(*(task(number) for number in range(100)))
    rows = split_rows(source, tmp_path / "new", {"train": 0.7, "valid": 0.2, "test": 0.1})
    assert rows == {"train": 70, "valid": 20, "test": 10}
    found = read_rows(tmp_path / "new")
    assert sorted(task_id for ids in found.values() for task_id in ids) == sorted(f"t{i}" for i in range(100))
    # In the order of the source, with the new split's name.
    assert found["test"] == sorted(found["test"], key=lambda task_id: int(task_id[1:]))
    assert {json.loads(x)["split"] for x in (tmp_path / "new/test.jsonl").read_text().splitlines()} == {"test"}
    assert not (tmp_path / "new/suite.yaml").exists()


def read_rows(folder):
    return {
        path.stem: [json.loads(line)["id"] for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


def test_the_seed_decides(tmp_path):
    source = source_of(*(task(number) for number in range(60)))
    shares = {"train": 0.5, "test": 0.5}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        split_rows(source, tmp_path / name, shares, seed)
    first, again, other = (read_rows(tmp_path / name) for name in "abc")
    assert first == again
    assert first != other
    # Not simply every other row.
    assert first["train"] not in ([f"t{i}" for i in range(0, 60, 2)], [f"t{i}" for i in range(1, 60, 2)])


def test_groups_stay_together(tmp_path):
    tasks = [task(number, tools=[f"tool{number % 7}", "add"], town=number % 11) for number in range(140)]
    for by, key in (("tools", lambda row: tuple(row["tools"])), ("town", lambda row: row["meta"]["town"])):
        split_rows(source_of(*tasks), tmp_path / by, {"train": 0.6, "valid": 0.2, "test": 0.2}, by=by)
        where = {}
        for path in (tmp_path / by).glob("*.jsonl"):
            for line in path.read_text().splitlines():
                where.setdefault(key(json.loads(line)), set()).add(path.stem)
        assert {len(splits) for splits in where.values()} == {1}
        assert set().union(*where.values()) == {"train", "valid", "test"}


def test_equal_prompts_stay_together_even_across_groups(tmp_path):
    tasks = [task(number, prompt=f"Question {number % 20}?", town=number) for number in range(40)]
    for name, by in (("plain", None), ("town", "town")):
        split_rows(source_of(*tasks), tmp_path / name, {"train": 0.5, "test": 0.5}, by=by)
        assert shared_prompts(tmp_path / name, ["train", "test"]) == set()
    # t0 and t1 share a prompt, t1 and t2 a town: all three belong together.
    linked = [task(0, "A?", town=1), task(1, "a?", town=2), task(2, "B?", town=2), task(3, "C?", town=3)]
    rows = split_rows(source_of(*linked), tmp_path / "linked", {"train": 0.75, "test": 0.25}, by="town")
    assert rows == {"train": 3, "test": 1}
    assert read_rows(tmp_path / "linked")["test"] == ["t3"]


def test_the_split_of_a_suite_is_a_suite(tmp_path):
    split_rows(read_source("math", ["valid"]), tmp_path / "math", {"train": 0.9, "test": 0.1})
    suite = load_yaml_suite(str(tmp_path / "math/suite.yaml"))
    assert (suite.name, suite.splits) == ("math", ("train", "test"))
    assert all(played.is_success for played in play_teachers(suite, "test"))
    # One with files of its own: they come along.
    (tmp_path / "math/notes.txt").write_text("kept")
    split_rows(read_source(tmp_path / "math/suite.yaml"), tmp_path / "again", {"a": 0.5, "b": 0.5})
    suite = load_yaml_suite(str(tmp_path / "again/suite.yaml"))
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "a.jsonl", "b.jsonl", "notes.txt", "suite.yaml", "tools.py",
    ]  # fmt: skip
    assert len(suite.tasks("a")) + len(suite.tasks("b")) == 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shares": {"train": 0.5}}, "the shares must add up to 1, got 0.5"),
        ({"shares": {}}, "the shares must add up to 1, got 0"),
        (
            {"shares": {"train": 1.5, "test": -0.5}},
            "share of split 'train' must be above 0 and at most 1, got 1.5",
        ),
        ({"shares": {"train": "0.5", "test": 0.5}}, "must be above 0 and at most 1, got '0.5'"),
        ({"shares": {"../x": 1.0}}, r"got '\.\./x'"),
        ({"by": "towns"}, "task 't0' has no meta field 'towns'; there are tools, kind, town; did you mean 'town'"),
        ({"by": "kind"}, "split 'test' would be empty: 10 rows in 1 groups that belong together"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    source = source_of(*(task(number, town=number) for number in range(10)))
    with pytest.raises(ValueError, match=message):
        split_rows(source, tmp_path / "new", **{"shares": {"train": 0.5, "test": 0.5}, **arguments})
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten_and_ids_stay_unique(tmp_path):
    (tmp_path / "x").write_text("")
    source = source_of(task(1), task(2))
    with pytest.raises(ValueError, match="not an empty folder; nothing is overwritten"):
        split_rows(source, tmp_path, {"train": 0.5, "test": 0.5})
    twice = source_of(task(1), task(1, split="test"))
    with pytest.raises(ValueError, match="two splits have a task 't1'"):
        split_rows(twice, tmp_path / "new", {"train": 0.5, "test": 0.5})
