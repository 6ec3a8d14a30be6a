"""The search box: full-text search over a corpus of documents, and opening one of them.

The corpus is read-only, so that every box of a process shares one index, which is built in memory at the first
search; a forked process builds its own. Two engines rank by BM25 with titles weighted: `fts5`, which comes with
Python's SQLite, and `tantivy`, an extra for large corpora.

What a policy writes never reaches an engine's query language: text is cut into words here, the same for both, and
an engine sees quoted words only. Words, snippets and the order of equal scores depend on no library. The scores
do: `tantivy` weighs otherwise than `fts5`, whose formula has stayed the same (SQLite 3.40, 3.51 and 3.54 agree).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sqlite3
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mentor_gym.data import DataError, name_field
from mentor_gym.names import nearest
from mentor_gym.tools.base import MAX_OUTPUT_CHARS, Tool, ToolBox, ToolError

DEFAULT_RESULTS = 3
MAX_RESULTS = 10
MAX_QUERY_CHARS = 500
MAX_QUERY_WORDS = 32
MAX_WORD_CHARS = 40
MAX_ID_CHARS = 100
SNIPPET_CHARS = 60
TITLE_WEIGHT = 3.0
_WORD = re.compile(r"[^\W_]+")
# Scores that differ by less are equal: the last digits depend on a machine's logarithm.
_DIGITS = 9
# What tantivy may hold before it writes a segment, and how many results beyond those wanted it is first asked for.
_HEAP_BYTES = 50_000_000
_SPARE = 16


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One document of a corpus, and one row of a corpus file.

    Attributes:
        id: Unique in its corpus, printable and without blanks, at most 100 characters.
        title: One line, not blank.
        text: The document itself, not blank.
    """

    id: str
    title: str
    text: str


def words(text: str) -> list[str]:
    """Cut a text into the words that are indexed and searched for.

    Words are runs of letters and digits, without case and accents, cut to 40 characters; an English plural is
    its singular (the rules of Harman, "How effective is suffixing?", 1991).

    >>> words("São Tomé's AIRPORTS, 2 cities")
    ['sao', 'tome', 's', 'airport', '2', 'city']
    """
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [_singular(word[:MAX_WORD_CHARS]) for word in _WORD.findall(text.casefold())]


def _singular(word: str) -> str:
    if len(word) < 4 or word[-1] != "s" or word[-2] in "su":
        return word
    if word.endswith("ies"):
        return word if word[-4] in "ae" else word[:-3] + "y"
    if word.endswith("es"):
        return word if word[-3] in "aeo" else word[:-1]
    return word[:-1]


class _Index(Protocol):
    """What an engine does: `find` returns positions of documents, best first, equal scores in corpus order."""

    def __init__(self, titles: Sequence[str], texts: Sequence[str]) -> None: ...

    def find(self, query: Sequence[str], limit: int) -> list[int]: ...


class _Fts5Index:
    """A table of SQLite's full-text module, in memory.

    The texts are words with blanks between them already, which the plainest tokenizer of FTS5 leaves alone: its
    others know other versions of Unicode in other releases of SQLite.
    """

    def __init__(self, titles: Sequence[str], texts: Sequence[str]) -> None:
        # Whoever calls holds the corpus's lock.
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        # No text is stored; without positions (detail=column) such a table would score every document zero.
        self._database.execute(
            "CREATE VIRTUAL TABLE documents USING fts5(title, text, content='', detail=full, tokenize='ascii')"
        )
        rows = zip(range(len(titles)), titles, texts)
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO documents(rowid, title, text) VALUES (?, ?, ?)", rows)
        self._database.execute("INSERT INTO documents(documents) VALUES ('optimize')")
        self._database.execute("COMMIT")

    def find(self, query: Sequence[str], limit: int) -> list[int]:
        found = self._database.execute(
            "SELECT rowid FROM documents WHERE documents MATCH ?"
            f" ORDER BY round(bm25(documents, {TITLE_WEIGHT}, 1.0), {_DIGITS}), rowid LIMIT ?",
            (_any_of(query), limit),
        )
        return [position for (position,) in found]


class _TantivyIndex:
    """An index of tantivy, in memory, written by one thread."""

    def __init__(self, titles: Sequence[str], texts: Sequence[str]) -> None:
        import tantivy

        schema = tantivy.SchemaBuilder()
        schema.add_text_field("title", tokenizer_name="whitespace")
        schema.add_text_field("text", tokenizer_name="whitespace")
        schema.add_unsigned_field("position", stored=True)
        self._index = tantivy.Index(schema.build())
        writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        for position, (title, text) in enumerate(zip(titles, texts)):
            writer.add_document(tantivy.Document(title=title, text=text, position=position))
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    def find(self, query: Sequence[str], limit: int) -> list[int]:
        parsed, _ = self._index.parse_query_lenient(
            _any_of(query), ["title", "text"], field_boosts={"title": TITLE_WEIGHT}
        )
        # Equal scores come in the order of the segments, which differs from run to run: all of them are needed.
        size = limit + _SPARE
        while True:
            hits = self._searcher.search(parsed, size, count=False).hits
            found = sorted((-round(score, 5), self._position(address)) for score, address in hits)
            if len(hits) < size or found[limit - 1][0] < found[-1][0]:
                return [position for _, position in found[:limit]]
            size *= 4

    def _position(self, address: Any) -> int:
        position: int = self._searcher.doc(address)["position"][0]
        return position


def _any_of(query: Sequence[str]) -> str:
    # Words hold letters and digits only; the quotes keep them from being operators.
    return " OR ".join(f'"{word}"' for word in query)


_ENGINES: dict[str, type[_Index]] = {"fts5": _Fts5Index, "tantivy": _TantivyIndex}
ENGINES = tuple(_ENGINES)


class _Live:
    """What one process has built of a corpus, and the lock under which it is used."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.indexes: dict[str, _Index] = {}
        self.frequencies: Counter[str] = Counter()


class Corpus:
    """Documents to search in: read-only, shared by every box of a process.

    Args:
        documents: The documents; their order decides between equal scores.

    Raises:
        ValueError: There is no document, or two have one id.

    >>> corpus = Corpus([Document("a", "Lima", "Lima is in Peru."), Document("b", "Oslo", "Oslo is in Norway.")])
    >>> [document.title for document in corpus.search("norway's capital", 3)]
    ['Oslo']
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents = tuple(documents)
        self._by_id = {document.id: document for document in self.documents}
        if not self.documents:
            raise ValueError("a corpus needs at least one document")
        if len(self._by_id) < len(self.documents):
            twice = next(i for i, n in Counter(document.id for document in self.documents).items() if n > 1)
            raise ValueError(f"two documents have the id {twice!r}")
        self._live = _Live()
        # Connections and locks of a parent process, kept so that nothing here ever closes or frees them.
        self._inherited: list[_Live] = []

    def __len__(self) -> int:
        return len(self.documents)

    def get(self, document_id: str) -> Document | None:
        """Return the document of an id; None when there is none."""
        return self._by_id.get(document_id)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids, titles and texts in their order."""
        content = msgspec.json.encode(self.documents)
        return hashlib.sha256(content).hexdigest()

    def search(self, query: str, limit: int, engine: str = "fts5") -> list[Document]:
        """Return the documents that hold a word of the query, best first.

        A word that stands in more than half of the documents tells nothing, and counts only where no other word
        of the query is known; of a longer query the first 32 known words count.

        Args:
            query: Any text.
            limit: How many documents at most.
            engine: `"fts5"` or `"tantivy"`.
        """
        live = self._live
        if live.pid != os.getpid():
            # A fork: SQLite's connections and tantivy's threads do not survive one, and the lock may be held.
            self._inherited.append(live)
            live = self._live = _Live()
        with live.lock:
            if engine not in live.indexes:
                self._build(live, engine)
            known = [word for word in dict.fromkeys(words(query)) if word in live.frequencies]
            telling = [word for word in known if 2 * live.frequencies[word] <= len(self.documents)]
            wanted = (telling or known)[:MAX_QUERY_WORDS]
            found = live.indexes[engine].find(wanted, limit) if wanted else []
        return [self.documents[position] for position in found]

    def _build(self, live: _Live, engine: str) -> None:
        titles = [words(document.title) for document in self.documents]
        texts = [words(document.text) for document in self.documents]
        live.frequencies = Counter(word for pair in zip(titles, texts) for word in {*pair[0], *pair[1]})
        live.indexes[engine] = _ENGINES[engine]([" ".join(each) for each in titles], [" ".join(t) for t in texts])


def read_corpus(path: str | Path) -> Corpus:
    r"""Read a user's corpus: a JSONL file of rows with `id`, `title` and `text`. A file is read once in a process.

    Raises:
        DataError: The file cannot be read, or a row is broken; names file, line and field.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "corpus.jsonl")
    ...     _ = file.write_text('{"id": "a", "title": "Lima", "text": "Lima is in Peru."}\n')
    ...     len(read_corpus(file))
    1
    """
    path = Path(path).resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    # A file that was written anew is another corpus.
    return _read_corpus(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read_corpus(path: Path, modified: int, size: int) -> Corpus:
    decoder = msgspec.json.Decoder(Document)
    lines: dict[str, int] = {}
    documents = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    document = decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    raise DataError(f"{where}: {name_field(str(error), Document, 'a document')}") from None
                problem = document_problem(document)
                if problem:
                    raise DataError(f"{where}: {problem}")
                if document.id in lines:
                    first = lines[document.id]
                    raise DataError(f'{where}: field "id": {document.id!r} stands twice, first in line {first}')
                lines[document.id] = number
                documents.append(document)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not documents:
        raise DataError(f"{path}: holds no documents")
    return Corpus(documents)


def document_problem(document: Document) -> str | None:
    """Say what is wrong with a document, field first; None when it can stand in a corpus.

    >>> document_problem(Document("a", "Lima", " "))
    'field "text": expected a text that is not blank'
    """
    name = document.id
    if not name or len(name) > MAX_ID_CHARS or not name.isprintable() or any(c.isspace() for c in name):
        shown = name[: MAX_ID_CHARS + 1]
        return f'field "id": expected printable characters without blanks, at most {MAX_ID_CHARS}, got {shown!r}'
    if not document.title.strip() or len(document.title.splitlines()) > 1:
        return f'field "title": expected one line that is not blank, got {document.title[:60]!r}'
    if not document.text.strip():
        return 'field "text": expected a text that is not blank'
    return None


def search_box(
    corpus: str | Path | Corpus | Callable[[], Corpus],
    engine: str = "fts5",
    results: int = DEFAULT_RESULTS,
    max_chars: int = MAX_OUTPUT_CHARS,
) -> ToolBox:
    """Build a search box: `search(query, top_n)` and `open(id)`.

    The box keeps no state, so that one serves any number of environments. In the tools file of your own suite:

    ```python
    def make_box():
        return search_box(Path(__file__).with_name("corpus.jsonl"))
    ```

    Args:
        corpus: The path of a corpus file (see `read_corpus`), read at once; a `Corpus`; or a function that returns
            one, called at the first use of a tool.
        engine: `"fts5"`, whose time grows with the documents that hold a word of the query (half a millisecond in
            2,500 documents, 15 in 50,000), or `"tantivy"`, a fraction of it in large corpora, which needs
            `pip install 'mentor-gym[search]'`.
        results: How many documents `search` names when `top_n` is not given, 1 to 10.
        max_chars: Longer documents are cut when they are opened, with a fixed mark.

    Raises:
        DataError: The corpus file is broken.
        ValueError: Unknown engine, one that is not installed, or a number out of range.

    >>> corpus = Corpus([Document("d1", "Lima", "Lima is in Peru."), Document("d2", "Oslo", "Oslo is in Norway.")])
    >>> tools = search_box(corpus).tools
    >>> tools["search"].call({"query": "Which city is in Peru?"}).output
    'd1 | Lima | Lima is in Peru.'
    >>> print(tools["open"].call({"id": "d2"}).output)
    Oslo
    Oslo is in Norway.
    >>> tools["open"].call({"id": "norway"}).output
    "error: open: no document 'norway'; did you mean d2 (Oslo)?"
    """
    _check_engine(engine)
    for name, value, limit in (("results", results, MAX_RESULTS), ("max_chars", max_chars, 1_000_000)):
        if type(value) is not int or not 1 <= value <= limit:
            raise ValueError(f"{name} must be a whole number of 1 to {limit}, got {value!r}")
    if isinstance(corpus, str | Path):
        corpus = read_corpus(corpus)
    source = corpus if callable(corpus) else lambda: corpus

    def search(query: str, top_n: int = results) -> str:
        """Documents that match a query, best first: id, title and first words.

        Args:
            query: A few words, for example a name and what is wanted of it.
            top_n: How many documents at most.
        """
        if len(query) > MAX_QUERY_CHARS:
            raise ToolError(f"the query is longer than {MAX_QUERY_CHARS} characters")
        found = source().search(query, top_n, engine)
        return "\n".join(map(_line, found)) or "no document matches"

    def open_document(id: str) -> str:
        """The text of one document.

        Args:
            id: Its id, as search gives it.
        """
        corpus = source()
        document = corpus.get(id.strip())
        if document is None:
            near = corpus.search(id[:MAX_QUERY_CHARS], 1, engine)
            hint = f"did you mean {near[0].id} ({near[0].title})?" if near else "search gives the ids"
            raise ToolError(f"no document {id[:60]!r}; {hint}")
        return f"{document.title}\n{document.text}"

    searching, opening = Tool.from_function(search), Tool.from_function(open_document, "open")
    properties: dict[str, Any] = searching.parameters["properties"]
    properties = {**properties, "top_n": {**properties["top_n"], "minimum": 1, "maximum": MAX_RESULTS}}
    # Ten lines of bounded length: nothing to cut.
    parameters = {**searching.parameters, "properties": properties}
    return _SearchBox(
        [
            Tool(search, searching.name, searching.description, parameters, max_output_chars=10_000),
            Tool(open_document, opening.name, opening.description, opening.parameters, max_output_chars=max_chars),
        ],
        source,
        engine,
    )


class _SearchBox(ToolBox):
    """The tools over a corpus."""

    def __init__(self, tools: Iterable[Tool], source: Callable[[], Corpus], engine: str) -> None:
        super().__init__(tools)
        self._source = source
        self._engine = engine

    @property
    def versions(self) -> dict[str, str]:
        """The documents, and what ranks them; releases of FTS5 rank alike."""
        engine = "fts5" if self._engine == "fts5" else f"tantivy {version('tantivy')}"
        return {"corpus": self._source().digest, "engine": engine}


def _check_engine(engine: str) -> None:
    if engine not in _ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}{nearest(engine, ENGINES)}")
    if engine == "tantivy" and importlib.util.find_spec("tantivy") is None:
        raise ValueError(
            "engine 'tantivy' needs the package tantivy, which is not installed: pip install 'mentor-gym[search]'"
        )
    if engine == "fts5" and not _has_fts5():
        raise ValueError("this Python's SQLite was built without FTS5; engine='tantivy' does without it")


@lru_cache(maxsize=1)
def _has_fts5() -> bool:
    database = sqlite3.connect(":memory:")
    (answer,) = database.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')").fetchone()
    database.close()
    return bool(answer)


def _line(document: Document) -> str:
    text = " ".join(document.text[: 4 * SNIPPET_CHARS].split())
    if len(text) > SNIPPET_CHARS:
        text = text[:SNIPPET_CHARS].rpartition(" ")[0] or text[:SNIPPET_CHARS]
        text += " …"
    return f"{document.id} | {' '.join(document.title.split())} | {text}"
