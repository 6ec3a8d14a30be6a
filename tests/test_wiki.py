"""The wiki suite: its corpus against the tables, its rows against both, and every teacher played."""

import csv
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter

import gymnasium as gym
import msgspec
import pytest

import mentor_gym  # noqa: F401  (registers the ids)
from mentor_gym.data import REBUILD_SEED, data_path
from mentor_gym.grading import normalise_text
from mentor_gym.protocol import render_message
from mentor_gym.suites import load_suite, wiki
from mentor_gym.suites.wiki_corpus import load_library, load_world, wiki_corpus, with_article
from mentor_gym.suites.wiki_kinds import KINDS, SPLITS, split_of
from mentor_gym.testing import check_suite
from mentor_gym.tools.facts import fold

SIZES = {"train": 900, "valid": 150, "test": 150}
HOPS = {
    1: {"country-fact", "airport-fact", "element-fact", "capital"},
    2: {
        "airport-country", "capital-country", "city-airport", "capital-airport", "same-year", "year-count",
        "next-element", "compare-countries", "compare-elements",
    },
    3: {
        "capital-airport-fact", "airport-capital-airport", "airport-part", "next-element-property",
        "same-year-fact",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def suite():
    return load_suite("wiki")


@pytest.fixture(scope="module")
def table():
    """Return the rows of a table, read apart from the package's own reader."""

    def read(name):
        with data_path("tables", f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return {name: read(name) for name in ("countries", "airports", "elements")}


def rows(suite, split):
    return list(suite.tasks(split))


def every_task(suite):
    return [task for split in SPLITS for task in rows(suite, split)]


def calls(task):
    """Return (tool, arguments, result) of every call of a teacher."""
    messages = task.teacher[:-1]
    return [
        (
            asked["tool_calls"][0]["function"]["name"],
            msgspec.json.decode(asked["tool_calls"][0]["function"]["arguments"]),
            told["content"],
        )
        for asked, told in zip(messages[::2], messages[1::2])
    ]


# The corpus


def test_the_corpus_has_thousands_of_short_articles():
    corpus = wiki_corpus()
    assert len(corpus) == 2554
    assert [document.id for document in corpus.documents[:2]] == ["d0001", "d0002"]
    assert len({document.title for document in corpus.documents}) == len(corpus)
    lengths = sorted(len(document.text) for document in corpus.documents)
    assert lengths[-1] < 1000
    assert 100 < lengths[len(lengths) // 2] < 250


def test_the_corpus_is_the_same_everywhere():
    # The shipped rows hold texts of these articles: another corpus needs other rows.
    digest = "c43b90bec7342a07ed42212cc57d834bfc6c6a29a8de6c51e103c3fb3f42ac41"
    assert wiki_corpus().digest == digest
    code = "from mentor_gym.suites.wiki_corpus import wiki_corpus; print(wiki_corpus().digest)"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == digest


def plain(number):
    """Return a number of the tables as articles write it."""
    return number if len(number.lstrip("-").partition(".")[0]) < 4 else f"{int(number):,}"


def test_articles_say_what_the_tables_say(table):
    documents = load_library().documents

    def says(key, *values):
        text = documents[key].text
        for value in values:
            assert re.search(rf"(?<![\w.,-]){re.escape(value)}(?![\w-]|[.,]\d)", text), (key, value, text)

    for row in table["countries"]:
        code, name = row["iso2"], row["name"]
        says(("country", code), name, row["capital"], row["subregion"], code)
        says(("geography", code), name, row["neighbours"])
        if row["area_km2"]:
            says(("geography", code), plain(row["area_km2"]))
        says(("demographics", code), name, plain(row["population"]))
        says(("city", f"{code}/{fold(row['capital'])}"), row["capital"], name)
        says(("subregion", row["subregion"]), name, row["region"])
        says(("region", row["region"]), row["subregion"])
    names = {row["iso2"]: row["name"] for row in table["countries"]}
    for row in table["airports"]:
        code = row["iata"]
        says(("airport", code), row["name"], code, plain(row["elevation_ft"]), row["lat"], row["lon"])
        if row["country"] in names and row["city"]:
            city = documents["city", f"{row['country']}/{fold(row['city'])}"]
            assert row["name"] in city.text
            assert with_article(names[row["country"]]) in documents["airport", code].text
            assert fold(row["city"]) in fold(documents["airport", code].text)
    for row in table["elements"]:
        name = row["name"]
        says(("element", name), name, row["symbol"], row["atomic_number"], row["period"], row["series"].lower())
        says(("properties", name), name, row["atomic_weight"])
        for field in ("density", "melting_point", "boiling_point"):
            if row[field]:
                says(("properties", name), row[field])
        if row["discovery_year"]:
            says(("element", name), row["discovery_year"])
            says(("year", row["discovery_year"]), name)
        if row["group"]:
            says(("element", name), row["group"])
            says(("group", row["group"]), name)


def test_lists_are_complete(table):
    documents = load_library().documents
    years = Counter(row["discovery_year"] for row in table["elements"] if row["discovery_year"])
    for year, size in years.items():
        text = documents["year", year].text
        assert sum(row["name"] in text for row in table["elements"]) == size
        assert re.search(rf"(?<!\d){size}(?!\d)", text)
    parts = Counter(row["subregion"] for row in table["countries"])
    for part, size in parts.items():
        assert f"{size} countries and territories" in documents["subregion", part].text


def test_articles_are_worded_in_several_ways():
    """The same fact is not always said in the same words, nor in the same place."""
    documents = load_library().documents
    seen = Counter()
    for code, row in load_world().countries.items():
        text = documents["country", code].text
        for name, shown in ((row["name"], "NAME"), (row["capital"], "CAPITAL"), (code, "CODE")):
            text = text.replace(name, shown)
        seen[text.replace(row["subregion"], "PART").replace(row["region"], "REGION")] += 1
    assert len(seen) > 60
    assert max(seen.values()) < len(load_world().countries) / 10


# Rows


def test_splits_have_their_rows_and_kinds(suite):
    assert suite.splits == SPLITS == tuple(SIZES)
    for split, size in SIZES.items():
        tasks = rows(suite, split)
        assert len(tasks) == size
        assert all(task.id == f"wiki-{split}-{i:05d}" for i, task in enumerate(tasks))
        assert {task.meta["kind"] for task in tasks} == {kind.name for kind in KINDS}
        for task in tasks:
            assert task.tools == ["search", "open"]
            assert task.meta["kind"] in HOPS[task.meta["hops"]]
            assert [name for name, _, _ in calls(task)] == ["search", "open"] * task.meta["hops"]
            assert task.meta["calls"] == 2 * task.meta["hops"]
        hops = Counter(task.meta["hops"] for task in tasks)
        assert hops[1] < size / 3
        assert hops[2] > size / 3
        assert hops[3] > size / 5


def test_the_files_are_small():
    sizes = [data_path("wiki", f"{split}.jsonl").stat().st_size for split in SPLITS]
    assert sum(sizes) < 2_750_000


@pytest.mark.parametrize("split", SPLITS)
def test_generation_gives_the_shipped_rows(split):
    shipped = data_path("wiki", f"{split}.jsonl").read_bytes().splitlines()[:150]
    assert [msgspec.json.encode(task) for task in wiki.generate(split, REBUILD_SEED, rows=150)] == shipped


def test_generation_does_not_depend_on_the_hash_seed():
    code = (
        "import msgspec, hashlib; from mentor_gym.suites.wiki import generate;"
        "print(hashlib.sha256(msgspec.json.encode(generate('train', 5, 60))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {hashlib.sha256(msgspec.json.encode(wiki.generate("train", 5, 60))).hexdigest() + "\n"}
    assert wiki.generate("train", 5, 30) != wiki.generate("train", 6, 30)


def test_a_split_without_more_questions_says_so(monkeypatch):
    monkeypatch.setattr(wiki, "KINDS", [kind for kind in KINDS if kind.name == "same-year"])
    monkeypatch.setattr(wiki, "_PATIENCE", 60)
    with pytest.raises(RuntimeError, match=r"split 'test' has no more than [0-9]+ questions"):
        wiki.generate("test", 0, rows=1000)


def entities(task):
    """Return what a question names, what answers it and what lies between, as parts of the splits."""
    world, found = load_world(), set()
    for slot, value in task.meta["slots"].items():
        if slot in ("country", "country2"):
            found.add(("country", value))
        elif slot == "airport" or (slot == "target" and value in world.airports):
            found.add(("country", world.airports[value]["country"]))
        elif slot in ("element", "element2", "target"):
            found.add(("element", value))
    return found


def test_no_entity_stands_in_two_splits(suite):
    seen = {split: set().union(*map(entities, rows(suite, split))) for split in SPLITS}
    for split in SPLITS:
        assert {split_of(*entity) for entity in seen[split]} == {split}
        assert len([key for kind, key in seen[split] if kind == "country"]) > 30
        assert len([key for kind, key in seen[split] if kind == "element"]) > 15
    named = {
        split: {
            value for task in rows(suite, split) for slot, value in task.meta["slots"].items() if slot == "city"
        }
        for split in SPLITS
    }
    assert not named["train"] & (named["valid"] | named["test"])
    assert not named["valid"] & named["test"]


def test_no_wording_stands_in_two_splits(suite):
    def pattern(wording):
        return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(wording)), re.IGNORECASE)

    wordings = {split: [pattern(text) for kind in KINDS for text in kind.wordings[split]] for split in SPLITS}
    for split in SPLITS:
        for task in rows(suite, split)[:150]:
            fits = {name for name in SPLITS if any(wording.fullmatch(task.prompt) for wording in wordings[name])}
            assert fits == {split}, task.prompt


def test_every_question_is_asked_once(suite):
    prompts = [task.prompt for task in every_task(suite)]
    assert len(set(prompts)) == len(prompts)


# Answers


def answer_of(task, table):
    """Answer a question from the CSV values, apart from the suite's own code."""
    slots, kind = task.meta["slots"], task.meta["kind"]
    countries = {row["iso2"]: row for row in table["countries"]}
    airports = {row["iata"]: row for row in table["airports"]}
    elements = {row["name"]: row for row in table["elements"]}

    def served(code):
        """Airports of the capital of a country."""
        capital = fold(countries[code]["capital"])
        return [row for row in table["airports"] if row["country"] == code and fold(row["city"]) == capital]

    if kind in ("country-fact", "airport-country", "capital-country"):
        code = airports[slots["airport"]]["country"] if kind == "airport-country" else slots["country"]
        if kind == "capital-country":
            assert countries[code]["capital"] == slots["city"]
        return countries[code][slots["field"]]
    if kind == "capital":
        (row,) = [row for row in table["countries"] if row["capital"] == slots["city"]]
        return row["name"]
    if kind == "airport-fact":
        return airports[slots["airport"]][slots["field"]]
    if kind == "city-airport":
        city = fold(slots["city"])
        (row,) = [row for row in table["airports"] if fold(row["city"]) == city]
        return row[slots["field"]]
    if kind in ("capital-airport", "capital-airport-fact"):
        (row,) = served(slots["country"])
        return row[slots.get("field", "name")]
    if kind == "airport-capital-airport":
        (row,) = served(airports[slots["airport"]]["country"])
        return row["name"]
    if kind == "airport-part":
        part = countries[airports[slots["airport"]]["country"]]["subregion"]
        return str(sum(row["subregion"] == part for row in table["countries"]))
    if kind == "element-fact":
        return elements[slots["element"]][slots["field"]]
    if kind in ("next-element", "next-element-property"):
        number = str(int(elements[slots["element"]]["atomic_number"]) + 1)
        (row,) = [row for row in table["elements"] if row["atomic_number"] == number]
        return row[slots["field"]]
    if kind in ("same-year", "same-year-fact", "year-count"):
        year = elements[slots["element"]]["discovery_year"]
        found = [row for row in table["elements"] if row["discovery_year"] == year]
        if kind == "year-count":
            return str(len(found))
        others = [row for row in found if row["name"] != slots["element"]]
        return ", ".join(row["name"] for row in others) if kind == "same-year" else others[0][slots["field"]]
    rows_of = countries if kind == "compare-countries" else elements
    first, second = (rows_of[value] for slot, value in slots.items() if slot != "larger")
    larger = first if float(first[slots["larger"]]) > float(second[slots["larger"]]) else second
    return larger["name"]


def test_answers_follow_from_the_tables(suite, table):
    for task in every_task(suite):
        assert task.answer == answer_of(task, table), task.id
    graders = Counter(task.grader["kind"] for task in every_task(suite))
    assert all(graders[kind] > 20 for kind in ("number", "text", "set"))


def test_one_other_element_makes_the_question_about_it_clear(suite, table):
    for task in every_task(suite):
        if task.meta["kind"] == "same-year-fact":
            year = load_world().elements[task.meta["slots"]["element"]]["discovery_year"]
            assert sum(row["discovery_year"] == year for row in table["elements"]) == 2


def stands_in(value, text):
    """Whether a text says a value, a number with or without commas, and no longer one that holds it."""
    forms = {value, plain(value)} if re.fullmatch(r"-?\d+", value) else {value}
    if not value.isupper():
        # The code IT is no "it".
        forms, text = set(map(fold, forms)), fold(text)
    return any(re.search(rf"(?<![\w.,-]){re.escape(form)}(?![\w-]|[.,]\d)", text) for form in forms)


def test_the_last_article_tells_what_the_earlier_ones_do_not(suite):
    """As many articles are needed as a question has hops: the answer stands in the last one and in none before."""
    checked = 0
    for task in every_task(suite):
        if task.meta["kind"].startswith("compare"):
            continue
        *earlier, last = [result for name, _, result in calls(task) if name == "open"]
        for answer in task.answer.split(", ") if task.grader["kind"] == "set" else [task.answer]:
            assert stands_in(answer, last), (task.id, last)
            # A short number may stand for something else: a period for a group.
            if task.grader["kind"] != "number" or len(task.answer) > 3:
                assert not any(stands_in(answer, text) for text in earlier), (task.id, earlier)
                checked += bool(earlier)
    assert checked > 400


def test_searches_find_distractors_too(suite):
    """The right article is not always the first, and there are others that share words with the query."""
    ranks, others = Counter(), 0
    for task in every_task(suite):
        steps = calls(task)
        for (_, _, found), (_, chosen, _) in zip(steps[::2], steps[1::2]):
            lines = [line.partition(" | ")[0] for line in found.splitlines()]
            ranks[lines.index(chosen["id"])] += 1
            others += len(lines) - 1
    assert ranks[1] + ranks[2] > 0.02 * ranks[0]
    assert others > 1.9 * sum(ranks.values())


def test_aliases_are_other_forms_of_the_answer(suite):
    for task in every_task(suite):
        if task.grader["kind"] == "text":
            aliases = task.grader.get("aliases", [])
            assert normalise_text(task.answer) not in map(normalise_text, aliases)
            assert len({normalise_text(alias) for alias in aliases}) == len(aliases)
    (task,) = [task for task in every_task(suite) if task.answer == "Václav Havel Airport"][:1]
    assert task.grader["aliases"] == ["vaclav havel airport", "PRG"]


# Teachers and state


@pytest.mark.parametrize("reward", ["mentor", "strict"])
@pytest.mark.parametrize("split", SPLITS)
def test_teacher_replays_to_the_full_reward(split, reward):
    env = gym.make("MentorTool-v0", suite="wiki", split=split, reward=reward, disable_env_checker=True)
    for task_id in env.unwrapped.tasks.ids:
        env.reset(options={"task_id": task_id})
        teacher = env.unwrapped.task.teacher
        total = 0.0
        for position, message in enumerate(teacher):
            if message["role"] != "assistant":
                continue
            _, paid, terminated, truncated, info = env.step(render_message(message))
            total += paid
            if not terminated:
                assert info["messages"][0]["content"] == teacher[position + 1]["content"], task_id
        assert terminated, task_id
        assert not truncated, task_id
        assert info["is_success"], task_id
        assert total == pytest.approx(1.1), task_id
    env.close()


def turns_of(task):
    return [render_message(message) for message in task.teacher if message["role"] == "assistant"]


def test_a_clone_goes_on_as_the_original_does(suite):
    task = next(task for task in rows(suite, "test") if task.meta["hops"] == 3)
    env = gym.make("MentorTool-v0", suite="wiki", split="test", disable_env_checker=True).unwrapped
    env.reset(seed=1, options={"task_id": task.id})
    for played, turn in enumerate(turns_of(task)):
        twin = env.clone()
        again = gym.make("MentorTool-v0", suite="wiki", split="test", disable_env_checker=True).unwrapped
        again.set_state(env.get_state())
        futures = []
        for other in (twin, again):
            futures.append([other.step(text)[:4] for text in turns_of(task)[played:]])
            assert other.transcript.is_success
            other.close()
        assert futures[0] == futures[1]
        assert env.step(turn)[:4] == futures[0][0]
    env.close()


def test_the_suite_keeps_the_promises_of_suites():
    assert check_suite("wiki", rows=60).failed == []
