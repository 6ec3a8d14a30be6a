"""Multi-hop question sets as suites with a search box: HotpotQA, 2WikiMultihopQA, Bamboogle and their like.

The files are the user's own; none is shipped or fetched. What is read of a row, wherever it stands (the row itself
or, as FlashRAG writes it, the row's `metadata`):

- `question` and `answer`, or `golden_answers`, a list whose first item is the answer and whose others are right
  too (Bamboogle: `Question` and `Answer`);
- `context`: the paragraphs, `[[title, [sentence, …]], …]`, or columns `{"title": […], "sentences": […]}` as the
  `datasets` library writes them (2WikiMultihopQA: `content` in place of `sentences`);
- `supporting_facts`: which of them tell the answer, `[[title, sentence number], …]` or
  `{"title": […], "sent_id": […]}`; with them a row gets a teacher;
- `_id` or `id`, `type`, `level`: kept in the task's `meta`; `answer_id`: looked up in 2WikiMultihopQA's
  `id_aliases.json` for other texts that are right.

Other fields are ignored. Files are a JSON array or one JSON object a line, `.csv` with a header line, all UTF-8.

Formats: Yang et al., "HotpotQA", EMNLP 2018; Ho et al., "Constructing a multi-hop QA dataset for comprehensive
evaluation of reasoning steps", COLING 2020 (2WikiMultihopQA); Press et al., "Measuring and narrowing the
compositionality gap in language models", 2022 (Bamboogle).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mentor_gym.data import DataError
from mentor_gym.grading import grade
from mentor_gym.importers.base import NAME, Imported, Request, longest_teacher, write_suite
from mentor_gym.importers.files import kind_of, one_line, rows, text_field
from mentor_gym.protocol import clean
from mentor_gym.suites.plans import teacher_messages
from mentor_gym.tools.base import Tool
from mentor_gym.tools.search import Corpus, Document, read_corpus, search_box
from mentor_gym.types import Task

# Open-domain questions have more look-alikes than the shipped suite.
RESULTS = 5
_TOOLS = '''"""Tools of this suite: full-text search over corpus.jsonl, which stands beside this file."""

from pathlib import Path

from mentor_gym.tools import ToolBox
from mentor_gym.tools.search import search_box


def make_box() -> ToolBox:
    """Build the search box."""
    return search_box(Path(__file__).with_name("corpus.jsonl"), engine="{engine}", results={results})
'''


@dataclass
class _Question:
    """A row as it was read; `context` is None where the row has none."""

    where: str
    question: str
    answers: list[str]
    context: list[tuple[str, str]] | None
    supporting: list[str]
    meta: dict[str, Any] = field(default_factory=dict)


def import_qa(
    sources: Mapping[str, str | Path],
    folder: str | Path,
    name: str = "qa",
    corpus: str | Path | None = None,
    aliases: str | Path | None = None,
    limit: int | None = None,
    engine: str = "fts5",
) -> Imported:
    """Write a suite folder, `suite.yaml`, `tools.py`, `corpus.jsonl` and a file of task rows per split.

    Its path is then a suite: `gym.make("MentorTool-v0", suite="folder/suite.yaml")`. The corpus holds the
    paragraphs of all rows, each once. A row with supporting facts gets a teacher that searches for the title of
    each, opens it and answers; one whose paragraphs are not in the corpus, or not found by title, gets none.

    Args:
        sources: Split name to file, the default split first: `{"train": "hotpot_train_v1.1.json"}`.
        folder: Where to write; made if need be, files of these names in it are replaced.
        name: Name of the suite.
        corpus: A corpus file (see `mentor_gym.tools.search.read_corpus`) to search in place of the rows'
            paragraphs. Needed for rows without any, such as Bamboogle's.
        aliases: 2WikiMultihopQA's `id_aliases.json`.
        limit: How many rows of each file to take, the first ones; None takes all.
        engine: Engine of the suite's search box, `"fts5"` or `"tantivy"`, which is much faster where a corpus has
            tens of thousands of documents.

    Returns:
        What was written.

    Raises:
        DataError: A file or row cannot be used; names file, line and field. Nothing was written then.
        ValueError: Another argument is wrong.

    >>> import json, tempfile
    >>> row = {"_id": "1", "question": "Where is the capital of Peru?", "answer": "at the coast",
    ...        "supporting_facts": [["Peru", 0], ["Lima", 0]],
    ...        "context": [["Peru", ["Its capital is Lima."]], ["Lima", ["Lima is at the coast."]]]}
    >>> with tempfile.TemporaryDirectory() as home:
    ...     _ = Path(home, "dev.json").write_text(json.dumps([row]))
    ...     done = import_qa({"dev": Path(home, "dev.json")}, Path(home, "hotpot"))
    >>> done.rows, done.documents, done.teachers, done.longest
    ({'dev': 1}, 2, 1, 5)
    """
    if not sources:
        raise ValueError("sources needs at least one split: {'train': 'file.json'}")
    for each in (name, *sources):
        if not isinstance(each, str) or not NAME.fullmatch(each) or each == "corpus":
            raise ValueError(f"a name of letters, digits, - and _ (and not 'corpus') is needed, got {each!r}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"limit must be a whole number of at least 1 or None, got {limit!r}")
    known = _read_aliases(Path(aliases)) if aliases is not None else {}
    questions = {split: list(_questions(Path(path), known, limit)) for split, path in sources.items()}
    for split, found in questions.items():
        if not found:
            raise DataError(f"{sources[split]}: holds no questions")
    everything = [question for found in questions.values() for question in found]
    documents = read_corpus(corpus) if corpus is not None else _corpus_of(everything)
    tools = search_box(documents, engine, RESULTS).tools
    by_title: dict[str, list[Document]] = {}
    for document in documents.documents:
        by_title.setdefault(document.title, []).append(document)
    tasks = {
        split: [
            _task(question, f"{name}-{split}-{number:06d}", name, split, tools, by_title)
            for number, question in enumerate(found)
        ]
        for split, found in questions.items()
    }
    encoder = msgspec.json.Encoder()
    files = {
        "corpus.jsonl": b"".join(encoder.encode(document) + b"\n" for document in documents.documents),
        "tools.py": _TOOLS.format(engine=engine, results=RESULTS).encode(),
    }
    suite = write_suite(Path(folder), name, "imported questions, answered by searching a corpus", files, tasks)
    return Imported(
        suite=suite,
        rows={split: len(found) for split, found in tasks.items()},
        teachers=sum(bool(task.teacher) for found in tasks.values() for task in found),
        longest=longest_teacher(tasks),
        documents=len(documents),
    )


def convert(
    request: Request,
    corpus: str | Path | None = None,
    aliases: str | Path | None = None,
    engine: str = "fts5",
) -> Imported:
    """Import the files of a request; see `import_qa`.

    Raises:
        DataError: A file or row cannot be used.
        ValueError: The request wishes what question sets do not know, or another argument is wrong.
    """
    if request.seed is not None or request.skip_broken:
        raise ValueError("format qa takes the first rows and refuses broken ones: leave out seed and skip_broken")
    return import_qa(request.sources, request.folder, request.name, corpus, aliases, request.limit, engine)


def _task(
    question: _Question,
    task_id: str,
    suite: str,
    split: str,
    tools: Mapping[str, Tool],
    by_title: Mapping[str, list[Document]],
) -> Task:
    answer, *others = question.answers
    grader: dict[str, Any] = {"kind": "text", "aliases": others} if others else {"kind": "text"}
    if not grade(answer, answer, grader):
        raise DataError(f'{question.where}: field "answer": {answer!r} has no words to compare')
    steps = _play(question.supporting, dict(question.context or ()), tools, by_title)
    meta = {**question.meta, "calls": len(steps)} if steps else question.meta
    return Task(
        id=task_id,
        suite=suite,
        split=split,
        prompt=question.question,
        tools=["search", "open"],
        answer=answer,
        grader=grader,
        state=None,
        teacher=teacher_messages(steps, answer) if steps else [],
        meta=meta,
    )


def _play(
    titles: list[str],
    paragraphs: Mapping[str, str],
    tools: Mapping[str, Tool],
    by_title: Mapping[str, list[Document]],
) -> list[tuple[str, dict[str, Any], str]]:
    """Search for and open each title; nothing when one is not to be found, and so no teacher either."""
    steps = []
    for title in titles:
        query = {"query": title}
        found = tools["search"].call(query).output
        listed = [line.partition(" | ")[0] for line in found.splitlines()]
        candidates = [document for document in by_title.get(title, ()) if document.id in listed]
        # Of several documents of one title the one that stands in this row.
        candidates.sort(key=lambda document: document.text != paragraphs.get(title))
        if not candidates:
            return []
        chosen = {"id": candidates[0].id}
        steps += [("search", query, found), ("open", chosen, tools["open"].call(chosen).output)]
    return steps


def _corpus_of(questions: list[_Question]) -> Corpus:
    paragraphs: dict[tuple[str, str], None] = {}
    for question in questions:
        if question.context is None:
            where = question.where
            raise DataError(f'{where}: field "context" is missing; rows without paragraphs need a corpus file')
        paragraphs.update(dict.fromkeys(question.context))
    if not paragraphs:
        raise DataError(f'{questions[0].where}: field "context": no row has a paragraph')
    return Corpus(Document(f"p{i:06d}", title, text) for i, (title, text) in enumerate(paragraphs, start=1))


# Reading


def _questions(path: Path, aliases: Mapping[str, list[str]], limit: int | None) -> Iterator[_Question]:
    for number, (where, row) in enumerate(rows(path)):
        if limit is not None and number >= limit:
            return
        yield _read(where, row, aliases)


def _read(where: str, row: Any, aliases: Mapping[str, list[str]]) -> _Question:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, got {kind_of(row)}")
    metadata = row.get("metadata")
    row = {**(metadata if isinstance(metadata, dict) else {}), **row}
    question = text_field(row, ("question", "Question"), where)
    if "golden_answers" in row and "answer" not in row:
        answers = _texts(row["golden_answers"], f'{where}: field "golden_answers"')
        if not answers:
            raise DataError(f'{where}: field "golden_answers": expected at least one answer')
    else:
        answers = [text_field(row, ("answer", "Answer"), where)]
    answer_id = row.get("answer_id")
    if isinstance(answer_id, str):
        answers += aliases.get(answer_id, [])
    context = _pairs(row, "context", ("sentences", "content"), where)
    facts = _pairs(row, "supporting_facts", ("sent_id",), where)
    paragraphs = None
    if context is not None:
        paragraphs = []
        for i, (title, sentences) in enumerate(context):
            at = f'{where}: field "context[{i}]"'
            if not isinstance(title, str) or not title.strip():
                raise DataError(f"{at}: expected a title, got {kind_of(title)}")
            # HotpotQA's sentences begin with the blank that parts them, those of others do not.
            text = " ".join(filter(None, (sentence.strip() for sentence in _texts(sentences, at))))
            # A paragraph may be empty in the published files; there is nothing to find in it.
            if text:
                paragraphs.append((one_line(title), text))
    supporting = []
    for i, (title, sentence) in enumerate(facts or ()):
        at = f'{where}: field "supporting_facts[{i}]"'
        if not isinstance(title, str) or type(sentence) is not int:
            raise DataError(f"{at}: expected a title and the number of a sentence")
        supporting.append(one_line(title))
    meta: dict[str, Any] = {}
    if "_id" in row or "id" in row:
        meta["source_id"] = clean(str(row.get("_id", row.get("id"))))
    if isinstance(row.get("type"), str):
        meta["kind"] = row["type"]
    if isinstance(row.get("level"), str):
        meta["level"] = row["level"]
    return _Question(
        where, question, list(dict.fromkeys(answers)), paragraphs, list(dict.fromkeys(supporting)), meta
    )


def _texts(value: Any, at: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{at}: expected a list of texts, got {kind_of(value)}")
    return [clean(item) for item in value]


def _pairs(
    row: Mapping[str, Any], name: str, columns: tuple[str, ...], where: str
) -> list[tuple[Any, Any]] | None:
    """Return pairs that are written as a list of them or as two columns; None when the row has none at all."""
    value = row.get(name)
    if value is None:
        return None
    at = f'{where}: field "{name}"'
    if isinstance(value, dict):
        titles = value.get("title")
        others = next((value[column] for column in columns if column in value), None)
        if not isinstance(titles, list) or not isinstance(others, list):
            raise DataError(f"{at}: expected the lists title and {' or '.join(columns)}")
        if len(titles) != len(others):
            raise DataError(f"{at}: {len(titles)} titles, but {len(others)} of the other column")
        return list(zip(titles, others))
    if not isinstance(value, list):
        raise DataError(f"{at}: expected a list of pairs or two lists, got {kind_of(value)}")
    for i, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f'{where}: field "{name}[{i}]": expected a pair')
    return [(first, second) for first, second in value]


def _read_aliases(path: Path) -> dict[str, list[str]]:
    """Read `id_aliases.json`: one object a line; aliases and demonyms both count, as in the published scores."""
    found = {}
    for where, row in rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("Q_id"), str):
            raise DataError(f'{where}: field "Q_id" is missing')
        found[row["Q_id"]] = [
            text
            for name in ("aliases", "demonyms")
            for text in _texts(row.get(name, []), f'{where}: field "{name}"')
        ]
    return found
