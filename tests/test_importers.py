"""Importers of question sets: small files in the real formats, each also with one broken row."""

import copy
import csv
import importlib.util
import json

import gymnasium as gym
import msgspec
import pytest

import mentor_gym  # noqa: F401  (registers the ids)
from mentor_gym.data import DataError
from mentor_gym.importers import import_qa
from mentor_gym.protocol import render_message
from mentor_gym.suites import load_suite
from mentor_gym.testing import check_suite

# The fields and their order are those of the published files; the texts are ours.
HOTPOT = [
    {
        "_id": "5a8b57f25542995d1e6f1371",
        "answer": "the Tern",
        "question": "Which river flows through the town where the painter Ada Brook was born?",
        "supporting_facts": [["Ada Brook", 0], ["Millford", 1], ["Ada Brook", 7]],
        "context": [
            ["Ada Brook", ["Ada Brook was a painter born in Millford.", " She painted boats."]],
            ["Millford", ["Millford is a town.", " The river Tern flows through it."]],
            ["Milford (film)", ["Milford is a film about a painter.", " It was shot by a river."]],
        ],
        "type": "bridge",
        "level": "hard",
    },
    {
        "_id": "5a8c7595554299585d9e36b6",
        "answer": "yes",
        "question": "Are Millford and Ostby both towns?",
        "supporting_facts": [["Millford", 0], ["Ostby", 0]],
        "context": [
            ["Millford", ["Millford is a town.", " The river Tern flows through it."]],
            [
                "Ostby",
                ["Ostby is a town with \u201cquotes\u201d and a view of Z\u00fcrich.", " It has a harbour."],
            ],
            ["Empty page", []],
        ],
        "type": "comparison",
        "level": "medium",
    },
]
WIKI2 = [
    {
        "_id": "13f5ad2c088c11ebbd6fac1f6bf848b6",
        "type": "bridge_comparison",
        "question": "Do the directors of Red Sail and Blue Sail come from the same country?",
        "context": [
            ["Red Sail", ["Red Sail is a film by Jo Marsh."]],
            ["Blue Sail", ["Blue Sail is a film by Kit Reed."]],
            ["Jo Marsh", ["Jo Marsh is a director from Norway."]],
            ["Kit Reed", ["Kit Reed is a director from Peru."]],
            ["Green Sail", ["Green Sail is a boat."]],
        ],
        "entity_ids": "Q1_Q2_Q3_Q4",
        "supporting_facts": [["Red Sail", 0], ["Blue Sail", 0], ["Jo Marsh", 0], ["Kit Reed", 0]],
        "evidences": [["Red Sail", "director", "Jo Marsh"], ["Blue Sail", "director", "Kit Reed"]],
        "answer": "no",
        "evidences_id": [],
        "answer_id": None,
    },
    {
        "_id": "28482a96086211ebbd58ac1f6bf848b6",
        "type": "compositional",
        "question": "Where does the director of Red Sail come from?",
        "context": [
            ["Red Sail", ["Red Sail is a film by Jo Marsh."]],
            ["Jo Marsh", ["Jo Marsh is a director from Norway.", "Marsh sails."]],
        ],
        "entity_ids": "Q1_Q3",
        "supporting_facts": [["Red Sail", 0], ["Jo Marsh", 0]],
        "evidences": [["Red Sail", "director", "Jo Marsh"], ["Jo Marsh", "country of citizenship", "Norway"]],
        "answer": "Norway",
        "evidences_id": [["Q1", "director", "Q3"], ["Q3", "country of citizenship", "Q20"]],
        "answer_id": "Q20",
    },
]
ALIASES = [
    {"Q_id": "Q20", "aliases": ["Kingdom of Norway", "Norge"], "demonyms": ["Norwegian"]},
    {"Q_id": "Q21", "aliases": [], "demonyms": []},
]
BAMBOOGLE = [
    {"Question": "Who led the town in the year when its harbour was built?", "Answer": "Ann Ferry"},
    {"Question": "What is the mascot of the school that Ada Brook went to?", "Answer": "An otter"},
]
CORPUS = [
    {"id": "m1", "title": "Ostby", "text": "The harbour of Ostby was built in 1901. Ann Ferry led the town then."},
    {"id": "m2", "title": "Ada Brook", "text": "Ada Brook went to Hill School, whose mascot is an otter."},
]


def columns(row):
    """Write a HotpotQA row the way the datasets library does."""
    titles, sentences = zip(*row["context"])
    fact_titles, numbers = zip(*row["supporting_facts"])
    return {
        "id": row["_id"],
        **{name: row[name] for name in ("question", "answer", "type", "level")},
        "supporting_facts": {"title": list(fact_titles), "sent_id": list(numbers)},
        "context": {"title": list(titles), "sentences": list(sentences)},
    }


def flashrag(row, number):
    """Write a row the way FlashRAG does."""
    whole = columns(row)
    metadata = {name: whole[name] for name in ("type", "level", "supporting_facts", "context")}
    return {
        "id": f"dev_{number}",
        "question": row["question"],
        "golden_answers": [row["answer"]],
        "metadata": metadata,
    }


def array(path, rows, indent=None):
    path.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    return path


def lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def tasks_of(done, split):
    return list(load_suite(str(done.suite)).tasks(split))


def play_teachers(done):
    """Play every teacher; returns how many there are."""
    played = 0
    for split in done.rows:
        env = gym.make(
            "MentorTool-v0", suite=str(done.suite), split=split, max_turns=done.longest, reward="strict"
        )
        for task in env.unwrapped.tasks:
            if not task.teacher:
                continue
            env.reset(options={"task_id": task.id})
            turns = [render_message(message) for message in task.teacher if message["role"] == "assistant"]
            total = 0.0
            for turn in turns:
                _, paid, terminated, _, info = env.step(turn)
                total += paid
            assert terminated
            assert info["is_success"]
            assert total == pytest.approx(1.1)
            played += 1
        env.close()
    return played


FORMS = {
    "hotpot array": lambda folder: array(folder / "dev.json", HOTPOT),
    "hotpot array, indented": lambda folder: array(folder / "dev.json", HOTPOT, indent=1),
    "hotpot columns": lambda folder: lines(folder / "dev.jsonl", map(columns, HOTPOT)),
    "hotpot of flashrag": lambda folder: lines(
        folder / "dev.jsonl", [flashrag(row, i) for i, row in enumerate(HOTPOT)]
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_hotpotqa(tmp_path, form):
    done = import_qa({"dev": FORMS[form](tmp_path)}, tmp_path / "hotpot", name="hotpot")
    assert (done.rows, done.documents, done.teachers, done.longest) == ({"dev": 2}, 4, 2, 5)
    first, second = tasks_of(done, "dev")
    assert (first.id, first.prompt, first.answer) == ("hotpot-dev-000000", HOTPOT[0]["question"], "the Tern")
    assert first.grader == second.grader == {"kind": "text"}
    assert first.meta["kind"] == "bridge"
    assert first.meta["level"] == "hard"
    assert first.meta["calls"] == 4
    assert first.meta["source_id"] == ("dev_0" if form == "hotpot of flashrag" else HOTPOT[0]["_id"])
    corpus = [msgspec.json.decode(line) for line in (tmp_path / "hotpot/corpus.jsonl").read_bytes().splitlines()]
    assert [row["title"] for row in corpus] == ["Ada Brook", "Millford", "Milford (film)", "Ostby"]
    assert corpus[0]["text"] == "Ada Brook was a painter born in Millford. She painted boats."
    assert "Zürich" in corpus[3]["text"]
    assert play_teachers(done) == 2
    check_suite(str(done.suite))


def test_2wikimultihopqa(tmp_path):
    source = array(tmp_path / "dev.json", WIKI2)
    aliases = lines(tmp_path / "id_aliases.json", ALIASES)
    done = import_qa({"test": source}, tmp_path / "wiki2", name="2wiki", aliases=aliases)
    assert (done.rows, done.documents, done.teachers) == ({"test": 2}, 6, 2)
    # Four articles: four searches, four openings and the answer.
    assert done.longest == 9
    compared, composed = tasks_of(done, "test")
    assert compared.grader == {"kind": "text"}
    assert composed.grader == {"kind": "text", "aliases": ["Kingdom of Norway", "Norge", "Norwegian"]}
    # Jo Marsh stands in two rows with different texts; the teacher of each opens its own.
    texts = [task.teacher[-2]["content"] for task in (compared, composed)]
    assert texts[0] == "Kit Reed\nKit Reed is a director from Peru."
    assert texts[1] == "Jo Marsh\nJo Marsh is a director from Norway. Marsh sails."
    assert play_teachers(done) == 2


@pytest.mark.parametrize("form", ["array", "lines", "csv", "flashrag"])
def test_bamboogle(tmp_path, form):
    if form == "flashrag":
        rows = [
            {
                "id": f"test_{i}",
                "question": row["Question"],
                "golden_answers": [row["Answer"].lower(), row["Answer"]],
            }
            for i, row in enumerate(BAMBOOGLE)
        ]
        source = lines(tmp_path / "test.jsonl", rows)
    else:
        write = {"array": array, "lines": lines, "csv": table}[form]
        source = write(tmp_path / f"test.{'csv' if form == 'csv' else 'json'}", BAMBOOGLE)
    corpus = lines(tmp_path / "mine.jsonl", CORPUS)
    done = import_qa({"test": source}, tmp_path / "bamboogle", corpus=corpus)
    assert (done.rows, done.documents, done.teachers, done.longest) == ({"test": 2}, 2, 0, 0)
    first, second = tasks_of(done, "test")
    assert second.prompt == BAMBOOGLE[1]["Question"]
    assert second.answer == ("an otter" if form == "flashrag" else "An otter")
    assert first.teacher == []
    env = gym.make("MentorTool-v0", suite=str(done.suite), reward="sparse")
    env.reset(options={"task_id": second.id})
    observation, *_ = env.step('<tool_call>{"name": "search", "arguments": {"query": "mascot"}}</tool_call>')
    assert "m2 | Ada Brook | " in observation
    *_, info = env.step("<answer>otter</answer>")
    assert info["is_success"]
    env.close()


def test_splits_share_one_corpus_and_another_folder_is_the_same_bytes(tmp_path):
    train, dev = array(tmp_path / "a.json", HOTPOT[:1]), array(tmp_path / "b.json", HOTPOT[1:])
    done = import_qa({"train": train, "dev": dev}, tmp_path / "one")
    again = import_qa({"train": str(train), "dev": str(dev)}, str(tmp_path / "two"))
    assert done.rows == again.rows == {"train": 1, "dev": 1}
    assert done.documents == 4
    assert load_suite(str(done.suite)).splits == ("train", "dev")
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {"suite.yaml", "tools.py", "corpus.jsonl", "train.jsonl", "dev.jsonl"}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("tantivy") is None, reason="needs the extra search")
def test_another_engine(tmp_path):
    source = array(tmp_path / "dev.json", HOTPOT)
    done = import_qa({"dev": source}, tmp_path / "qa", engine="tantivy")
    assert 'engine="tantivy"' in (tmp_path / "qa/tools.py").read_text()
    assert play_teachers(done) == done.teachers == 2
    with pytest.raises(ValueError, match="engine must be one of fts5, tantivy, got 'bm25'"):
        import_qa({"dev": source}, tmp_path / "qa", engine="bm25")


def test_limit_takes_the_first_rows_and_reads_no_others(tmp_path):
    source = lines(tmp_path / "dev.jsonl", [*HOTPOT, {"broken": 1}])
    assert import_qa({"dev": source}, tmp_path / "qa", limit=1).rows == {"dev": 1}
    with pytest.raises(DataError, match="line 3"):
        import_qa({"dev": source}, tmp_path / "qa", limit=3)


def test_a_row_whose_facts_cannot_be_found_has_no_teacher(tmp_path):
    rows = copy.deepcopy(HOTPOT)
    # As in HotpotQA's full-wiki files, where the paragraphs are what a retriever found.
    rows[0]["context"] = rows[0]["context"][1:]
    del rows[1]["supporting_facts"]
    done = import_qa({"dev": array(tmp_path / "dev.json", rows)}, tmp_path / "qa")
    assert (done.teachers, done.longest) == (0, 0)
    assert [task.teacher for task in tasks_of(done, "dev")] == [[], []]


def test_a_corpus_file_takes_the_place_of_paragraphs(tmp_path):
    corpus = lines(tmp_path / "mine.jsonl", CORPUS)
    done = import_qa({"dev": array(tmp_path / "dev.json", HOTPOT)}, tmp_path / "qa", corpus=corpus)
    assert (done.documents, done.teachers) == (2, 0)


def test_texts_are_cleaned(tmp_path):
    row = copy.deepcopy(HOTPOT[1])
    row["question"] = "Where\ud800?\x1b[31m"
    row["context"][1] = ["  Two\nlines ", ["a\ud800b", "\x00"]]
    done = import_qa({"dev": array(tmp_path / "dev.json", [row])}, tmp_path / "qa")
    assert tasks_of(done, "dev")[0].prompt == "Where\ufffd?\ufffd[31m"
    corpus = [msgspec.json.decode(line) for line in (tmp_path / "qa/corpus.jsonl").read_bytes().splitlines()]
    assert corpus[1] == {"id": "p000002", "title": "Two lines", "text": "a\ufffdb \ufffd"}


# Broken rows


def broken(row, **changes):
    changed = {**copy.deepcopy(row), **changes}
    return {name: value for name, value in changed.items() if value is not ...}


ROWS = [
    (broken(HOTPOT[1], question=...), 'field "question" is missing'),
    (broken(HOTPOT[1], question="  "), 'field "question": expected a text that is not blank, got \'  \''),
    (broken(HOTPOT[1], answer=...), 'field "answer" is missing'),
    (broken(HOTPOT[1], answer=["yes"]), 'field "answer": expected a text that is not blank, got a list'),
    (broken(HOTPOT[1], answer="?!"), "field \"answer\": '?!' has no words to compare"),
    (broken(HOTPOT[1], context=...), 'field "context" is missing; rows without paragraphs need a corpus file'),
    (broken(HOTPOT[1], context="text"), 'field "context": expected a list of pairs or two lists, got \'text\''),
    (broken(HOTPOT[1], context=[["Ostby"]]), 'field "context[0]": expected a pair'),
    (broken(HOTPOT[1], context=[["A", ["x"]], [3, ["x"]]]), 'field "context[1]": expected a title, got 3'),
    (broken(HOTPOT[1], context=[["A", "x"]]), 'field "context[0]": expected a list of texts, got \'x\''),
    (broken(HOTPOT[1], context={"title": ["A"]}), 'field "context": expected the lists title and sentences or'),
    (
        broken(HOTPOT[1], context={"title": ["A", "B"], "sentences": [["x"]]}),
        'field "context": 2 titles, but 1 of the other column',
    ),
    (broken(HOTPOT[1], supporting_facts=[["A", "0"]]), 'field "supporting_facts[0]": expected a title and'),
    (broken(HOTPOT[1], supporting_facts={"title": ["A"]}), 'field "supporting_facts": expected the lists'),
    (["not", "an", "object"], "expected an object, got a list"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "message"), ROWS)
@pytest.mark.parametrize("form", ["array", "indented array", "lines"])
def test_a_broken_row_is_named(tmp_path, form, row, message):
    rows = [HOTPOT[0], row, HOTPOT[1]]
    if form == "lines":
        source, where = lines(tmp_path / "dev.jsonl", rows), "line 2: "
    elif form == "array":
        source, where = array(tmp_path / "dev.json", rows), "line 1 (row 2): "
    else:
        text = ",\n".join(json.dumps(item) for item in rows)
        source, where = tmp_path / "dev.json", "line 3 (row 2): "
        source.write_text(f"[\n{text}\n]\n")
    with pytest.raises(DataError) as caught:
        import_qa({"dev": source}, tmp_path / "qa")
    assert str(caught.value).startswith(f"{source}, {where}")
    assert message in str(caught.value)
    assert not (tmp_path / "qa").exists()


def test_a_broken_row_of_2wikimultihopqa_is_named(tmp_path):
    # The published test split has no answers.
    rows = [WIKI2[0], broken(WIKI2[1], answer=..., supporting_facts=..., evidences=...)]
    with pytest.raises(DataError, match=r'test\.json, line 1 \(row 2\): field "answer" is missing'):
        import_qa({"test": array(tmp_path / "test.json", rows)}, tmp_path / "qa")
    source = array(tmp_path / "dev.json", WIKI2)
    aliases = lines(tmp_path / "id_aliases.json", [ALIASES[0], {"Q_id": "Q7", "aliases": "Norge"}])
    with pytest.raises(DataError, match=r'id_aliases\.json, line 2: field "aliases": expected a list of texts'):
        import_qa({"dev": source}, tmp_path / "qa", aliases=aliases)
    aliases = lines(tmp_path / "id_aliases.json", [{"id": "Q7"}])
    with pytest.raises(DataError, match=r'id_aliases\.json, line 1: field "Q_id" is missing'):
        import_qa({"dev": source}, tmp_path / "qa", aliases=aliases)


def test_a_broken_row_of_bamboogle_is_named(tmp_path):
    corpus = lines(tmp_path / "mine.jsonl", CORPUS)
    source = table(tmp_path / "test.csv", [BAMBOOGLE[0], {**BAMBOOGLE[1], "Answer": ""}])
    with pytest.raises(DataError, match=r'test\.csv, line 3: field "Answer": expected a text that is not blank'):
        import_qa({"test": source}, tmp_path / "qa", corpus=corpus)
    source = lines(tmp_path / "test.jsonl", [{"id": "test_0", "question": "Who?", "golden_answers": []}])
    with pytest.raises(DataError, match=r'test\.jsonl, line 1: field "golden_answers": expected at least one'):
        import_qa({"test": source}, tmp_path / "qa", corpus=corpus)
    source = array(tmp_path / "test.json", BAMBOOGLE)
    with pytest.raises(DataError, match=r'row 1\): field "context" is missing; .* need a corpus file'):
        import_qa({"test": source}, tmp_path / "qa")
    bad = lines(tmp_path / "bad.jsonl", [CORPUS[0], {"id": "m2", "title": "Ada Brook"}])
    with pytest.raises(DataError, match=r'bad\.jsonl, line 2: field "text" is missing'):
        import_qa({"test": source}, tmp_path / "qa", corpus=bad)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "[{]", "line 1 (row 1): not JSON: "),
        ("x.json", '[\n{"a": 1}\n{"b": 2}\n]', 'line 2 (row 1): field "question" is missing'),
        ("x.json", "[" * 100_000, "not JSON: nested too deeply"),
        ("x.json", '[{"question": ' + "9" * 5000 + "}]", "not JSON: a whole number of more than 64 bits"),
        ("x.json", "[", "line 1 (row 1): not JSON: "),
        ("x.json", "", "holds no questions"),
        ("x.json", "[]", "holds no questions"),
        ("x.jsonl", '{"question": "x"', "line 1: not JSON: "),
        ("x.csv", "question,answer\n", "holds no questions"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, message):
    source = tmp_path / name
    source.write_text(content)
    with pytest.raises(DataError) as caught:
        import_qa({"dev": source}, tmp_path / "qa")
    assert str(caught.value).startswith(str(source))
    assert message in str(caught.value)


def test_text_after_the_array_is_named(tmp_path):
    source = tmp_path / "dev.json"
    source.write_text(json.dumps(HOTPOT) + "\n{}\n")
    with pytest.raises(DataError, match=r"dev\.json: not JSON: text after the end of the array"):
        import_qa({"dev": source}, tmp_path / "qa")


def test_rows_that_are_not_parted_by_commas_are_named(tmp_path):
    source = tmp_path / "dev.json"
    source.write_text(f"[{json.dumps(HOTPOT[0])} {json.dumps(HOTPOT[1])}]")
    with pytest.raises(DataError, match=r"line 1 \(row 1\): not JSON: expected , or \] after the row"):
        import_qa({"dev": source}, tmp_path / "qa")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: cannot be read: No such file"):
        import_qa({"dev": tmp_path / "gone.json"}, tmp_path / "qa")
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'[{"question": "Z\xfcrich"}]')
    with pytest.raises(DataError, match=r"latin\.json: not UTF-8"):
        import_qa({"dev": latin}, tmp_path / "qa")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": {}}, "at least one split"),
        ({"sources": {"../x": "dev.json"}}, "got '../x'"),
        ({"sources": {"corpus": "dev.json"}}, "got 'corpus'"),
        ({"name": "my set"}, "got 'my set'"),
        ({"limit": 0}, "limit must be"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    given = {"sources": {"dev": array(tmp_path / "dev.json", HOTPOT)}, "folder": tmp_path / "qa", **arguments}
    with pytest.raises(ValueError, match=message):
        import_qa(**given)
