"""The tokenizer of `tiny`, the text that it is pretrained on, and the pretraining loop at toy size."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import row
from hypothesis import given, strategies
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents import pretrain, pretrain_text
from mentor_gym.data import data_path, load_tasks
from mentor_gym.env import MentorToolEnv
from mentor_gym.grading import grade
from mentor_gym.protocol import render_call, render_results, render_signature
from mentor_gym.suites import Suite, load_suite
from mentor_gym.suites.math import LOWERINGS, PAPER_NAMES, UNSEEN_NAMES, math_box_tools, split_of
from mentor_gym.suites.math_kinds import COMPOSE_KINDS, KINDS, TEST_NAMES, UNSEEN_TOOL_KINDS
from mentor_gym.suites.plans import calls_of, lower, run
from mentor_gym.tools.facts import facts_tools
from mentor_gym.tools.math import math_box, math_tools

TOOLS = {tool.name: tool for tool in (*math_tools(), *facts_tools())}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return pretrain.make_tokenizer()


@pytest.fixture(scope="module", autouse=True)
def _share_tokenizer(tokenizer: Any) -> Iterator[None]:
    pretrain._tokenizer = tokenizer
    yield
    pretrain._tokenizer = None


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


class Recorder(pretrain_text.Writer):
    """A writer that keeps what it wrote each conversation from.

    Attributes:
        steps: Tool, arguments and result of every call of the last problem or plain question; None for a look-up.
        offered: The tools that it offers, under their real names.
        numbers: Every kind's name with the numbers drawn for it.
    """

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.steps: list[Any] | None = None
        self.offered: list[str] = []
        self.numbers: list[tuple[str, dict[str, Any]]] = []

    def _training_numbers(self, kind: Any) -> dict[str, Any]:
        numbers = super()._training_numbers(kind)
        self.numbers.append((kind.name, numbers))
        return numbers

    def _write(self, prompt: Any, offered: Any, steps: Any, answer: str) -> list[dict[str, str]]:
        self.offered, self.steps = list(offered), list(steps)
        return super()._write(prompt, offered, steps, answer)


def conversations(count: int, seed: str = "test/text") -> list[list[dict[str, str]]]:
    writer = pretrain_text.Writer(seed)
    return [writer.conversation() for _ in range(count)]


# What the tokenizer promises.


@given(strategies.text(alphabet=strategies.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_decodes_to_itself(tokenizer: Any, text: str) -> None:
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text
    assert max(ids, default=0) < len(tokenizer)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\r\n\t\x00", "🎉 naïve 你好 👩‍👩‍👧", "e\u0301", "<tool_call><tool_call>", "\uffff\U0010ffff", "٣"],
)
def test_awkward_texts_decode_to_themselves(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(encode(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_numbers_names_keys_and_fixed_strings_are_single_tokens(tokenizer: Any) -> None:
    fixed = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<answer>", "</answer>"]
    opening, close = '<tool_call>{"name": "', "}}</tool_call>"
    keys = {key for tool in TOOLS.values() for key in tool.parameters["properties"]}
    assert keys
    for text in [opening, close, *fixed[2:], *TOOLS, *keys, *map(str, range(100))]:
        assert len(encode(tokenizer, text)) == 1, text
    # As the first argument of a call, a key comes with its quotes.
    for key in keys:
        tokens = tokenizer.convert_ids_to_tokens(encode(tokenizer, render_call("add", {key: 7})))
        assert len(tokens) == 6, tokens


def test_a_call_of_every_tool_is_short(tokenizer: Any) -> None:
    for name, tool in TOOLS.items():
        keys = list(tool.parameters["properties"])
        ids = encode(tokenizer, render_call(name, dict.fromkeys(keys, 42)))
        # Opening, name, arguments, close; `"a": ` and 42 first, then `, "`, `b`, `": ` and 42.
        assert len(ids) == 4 + 2 + 4 * (len(keys) - 1), tokenizer.convert_ids_to_tokens(ids)


@given(strategies.integers(0, 10**9), strategies.sampled_from(["", ".5", ".25", ".125"]))
def test_a_number_has_the_same_tokens_in_prompt_call_result_and_answer(
    tokenizer: Any, whole: int, fraction: str
) -> None:
    text = f"{whole}{fraction}"
    value = float(text) if fraction else whole
    alone = encode(tokenizer, text)
    call = render_call("add", {"a": value, "b": value})
    assert call.count(text) == 2
    for around in (f"What is {text} plus 1?", call, f"<tool_response>{text}</tool_response>", f"<answer>{text}"):
        ids = encode(tokenizer, around)
        found = sum(ids[start : start + len(alone)] == alone for start in range(len(ids)))
        assert found >= around.count(text), tokenizer.convert_ids_to_tokens(ids)


def test_no_word_of_the_training_prompts_falls_to_bytes(tokenizer: Any) -> None:
    tasks = load_tasks(data_path("math", "train.jsonl"), "math", "train", load_suite("math").box.tools)
    for word in {word for task in tasks for word in re.findall(r"[A-Za-z]+", task.prompt)}:
        assert len(encode(tokenizer, f" {word}")) == 1, word


# What the text promises.


def test_encoding_equals_the_chat_template(tokenizer: Any) -> None:
    ids, mask, lengths = pretrain.write_shard((3, 1, 60, {}))
    written = conversations(60, "3/pretrain/1")
    start = 0
    for conversation, length in zip(written, lengths, strict=True):
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
        expected = encode(tokenizer, text)
        assert ids[start : start + length].tolist() == expected
        # Trained are an assistant's tokens and the end of its turn, and nothing else.
        trained = tokenizer.decode(ids[start : start + length][mask[start : start + length]])
        assert trained == "".join(f"{m['content']}<|end|>" for m in conversation if m["role"] == "assistant")
        start += length
    assert start == len(ids) == len(mask)
    assert ids.max() < len(tokenizer)


def test_a_seed_writes_the_same_text_and_another_seed_another() -> None:
    first, again, other = (pretrain.write_shard((seed, 0, 40, {})) for seed in (5, 5, 6))
    for one, two in zip(first, again):
        np.testing.assert_array_equal(one, two)
    assert first[0].tolist() != other[0].tolist()
    assert pretrain.write_shard((5, 1, 40, {}))[0].tolist() != first[0].tolist()


def test_conversations_replay_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation with the shipped names is what the environment would have shown: prompt, results, verdict."""
    writer = Recorder("test/replay")
    rows, kept = [], []
    for _ in range(800):
        writer.steps = None
        conversation = writer.conversation()
        if writer.steps is None:
            continue
        tools = math_box_tools()
        signatures = [render_signature(tools[name].schema["function"]) for name in writer.offered]
        *lines, question = conversation[0]["content"].split("\n")
        if lines != signatures:
            continue  # renamed or paraphrased
        final = conversation[-1]["content"].removeprefix("<answer>").removesuffix("</answer>")
        task_id = f"text-{len(kept)}"
        rows.append(row(task_id, prompt=question, tools=writer.offered, answer=final, teacher=[], meta={}))
        kept.append((task_id, conversation))
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    suite = Suite("shop", ("train",), make_box=math_box, files={"train": path})
    monkeypatch.setattr("mentor_gym.env.load_suite", lambda name: suite)
    env = MentorToolEnv("text", prompt="compact")
    calls = 0
    for task_id, conversation in kept:
        observation, info = env.reset(options={"task_id": task_id})
        assert observation == conversation[0]["content"]
        for said, shown in zip(conversation[1::2], [*conversation[2::2], None]):
            observation, _, terminated, truncated, info = env.step(said["content"])
            if shown is not None:
                assert observation == shown["content"]
                assert not terminated
                assert not truncated
                calls += 1
        assert terminated
        assert info["is_success"]
    assert len(kept) > 60
    assert calls > 60


def test_every_call_is_executed_by_the_real_tool() -> None:
    writer = Recorder("test/calls")
    executed = 0
    for _ in range(400):
        writer.steps = None
        conversation = writer.conversation()
        if writer.steps is None:
            continue
        results = [math_box_tools()[name].call(arguments) for name, arguments, _ in writer.steps]
        assert [message["content"] for message in conversation[2::2]] == [render_results([r]) for r in results]
        executed += len(results)
    assert executed > 300


def test_shares_of_right_answers_are_those_disclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    formulas = []
    parse = pretrain_text.parse_formula
    monkeypatch.setattr(
        pretrain_text, "parse_formula", lambda *args: formulas.append(parse(*args)) or formulas[-1]
    )
    writer = Recorder("test/shares")
    right: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(3000):
        formulas.clear()
        conversation = writer.conversation()
        if formulas:
            steps = run(calls_of(lower(formulas[-1], LOWERINGS, PAPER_NAMES)[0]), math_box_tools())
            said = conversation[-1]["content"].removeprefix("<answer>").removesuffix("</answer>")
            right[len(steps) == 1].append(grade(said, steps[-1][2], {"kind": "number"}))
    # A random call may be right too, so the shares are a little above what was drawn on purpose.
    for single, share in ((True, pretrain_text.SINGLE_SHARE), (False, pretrain_text.CHAIN_SHARE)):
        assert len(right[single]) > 300
        assert share - 0.06 < np.mean(right[single]) < share + 0.1


# What must not be in it.


@pytest.fixture(scope="module")
def recorded() -> tuple[Recorder, list[str]]:
    writer = Recorder("test/held-out")
    texts = ["\n".join(m["content"] for m in writer.conversation()) for _ in range(3000)]
    return writer, texts


def test_numbers_are_training_numbers(recorded: tuple[Recorder, list[str]]) -> None:
    writer, _ = recorded
    names = {kind.name for kind in KINDS}
    assert len(writer.numbers) > 1000
    assert {name for name, _ in writer.numbers} == names
    assert {split_of(name, numbers) for name, numbers in writer.numbers} == {"train"}
    assert not names & {kind.name for kind in (*COMPOSE_KINDS, *UNSEEN_TOOL_KINDS)}


def literal_parts(wordings: Any) -> set[str]:
    """The texts between the slots of wordings, of at least three words: what betrays a wording."""
    parts: set[str] = set()
    for wording in wordings:
        # Every choice of the alternatives in brackets.
        pieces = [piece.split("|") for piece in re.split(r"\[([^]]*)\]", wording)]
        for choice in itertools.product(*pieces):
            parts |= {part.strip() for part in re.split(r"\{\w+\}", "".join(choice))}
    return {part for part in parts if len(part.split()) >= 3}


def test_no_held_out_wording(recorded: tuple[Recorder, list[str]]) -> None:
    _, texts = recorded
    everything = "\n".join(texts)
    training = literal_parts(wording for kind in KINDS for wording in kind.wordings)
    assert sum(part in everything for part in training) > 0.9 * len(training)
    held_out = literal_parts(wording for kind in KINDS for wording in (*kind.valid_wordings, *kind.test_wordings))
    held_out |= literal_parts(
        wording for kind in (*COMPOSE_KINDS, *UNSEEN_TOOL_KINDS) for wording in kind.wordings
    )
    held_out = {part for part in held_out if not any(part in known for known in training)}
    assert len(held_out) > 40
    assert [part for part in held_out if part in everything] == []
    assert [name for name in TEST_NAMES if re.search(rf"\b{name}\b", everything)] == []


def test_no_shipped_question_outside_training(recorded: tuple[Recorder, list[str]]) -> None:
    _, texts = recorded
    questions = {text.split("\n<")[0].rpartition("\n")[2] for text in texts}
    shipped = set()
    for name, splits in (("math", ("valid", "test", "ood-compose", "ood-tools")), ("facts", ("ood-domain",))):
        for split in splits:
            tasks = load_suite(name).tasks(split)
            shipped |= {tasks[number].prompt for number in range(len(tasks))}
    assert len(shipped) > 1200
    assert questions & shipped == set()


def test_no_tool_of_the_held_out_splits(recorded: tuple[Recorder, list[str]]) -> None:
    """Invented tools may share a word with a tool of `facts`, but never its line of the prompt."""
    _, texts = recorded
    lines = {line for text in texts for line in text.split("\n")}
    assert {render_signature(TOOLS[name].schema["function"]) for name in PAPER_NAMES} <= lines
    held_out = set(TOOLS) - set(PAPER_NAMES)
    assert set(UNSEEN_NAMES) < held_out
    assert {render_signature(TOOLS[name].schema["function"]) for name in held_out} & lines == set()
    called = set(re.findall(r'<tool_call>\{"name": "(\w+)"', "\n".join(texts)))
    assert set(UNSEEN_NAMES) & called == set()


# The loop.


def test_pretraining_lowers_the_loss_and_saves_what_transformers_loads(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = pretrain.write_shard((0, 0, 64, {}))
    monkeypatch.setattr(pretrain, "write_text", lambda seed, documents, processes, **shares: shard)
    make_model = functools.partial(pretrain.make_model, hidden=64, layers=1)
    monkeypatch.setattr(pretrain, "make_model", make_model)
    pretrain.pretrain(tmp_path, seed=3, documents=64, epochs=6, learning_rate=0.05, batch_tokens=1024)

    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids, mask, lengths = shard
    size = int(lengths[0])
    tokens, trained = torch.from_numpy(ids[:size].astype(np.int64))[None], torch.from_numpy(mask[:size])

    def loss(model: Any) -> float:
        logits = model(tokens).logits[0, :-1][trained[1:]]
        return float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:][trained[1:]]))

    with torch.no_grad():
        untrained = loss(make_model(len(tokenizer)))
        assert untrained == pytest.approx(np.log(len(tokenizer)), abs=0.5)
        assert loss(model) < untrained - 1
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = render_call("multiply", {"a": 12345, "b": 6}) + "🎉"
    assert encode(loaded, text) == encode(tokenizer, text)
    assert loaded.chat_template == tokenizer.chat_template


def test_the_origin_says_how_the_weights_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = pretrain.write_shard((0, 0, 8, {}))
    monkeypatch.setattr(pretrain, "write_text", lambda seed, documents, processes, **shares: shard)
    monkeypatch.setattr(pretrain, "make_model", functools.partial(pretrain.make_model, hidden=64, layers=1))
    pretrain.pretrain(tmp_path, seed=3, documents=5, epochs=2, learning_rate=0.05, batch_tokens=1024)
    origin = json.loads((tmp_path / "origin.json").read_text())
    assert origin == {
        "command": "python -m agents.pretrain --seed 3 --documents 5 --epochs 2 --learning-rate 0.05 "
        "--batch-tokens 1024",
        "seed": 3,
        # What was written, which may be more than what was asked for.
        "documents": 8,
        "epochs": 2,
        "tokens": 2 * len(shard[0]),
    }


def test_notes_are_right_as_often_as_wrong_and_followed_as_often_as_not() -> None:
    writer = pretrain_text.Writer("notes", notes=1.0, singles=1.0, chains=1.0)
    followed = right = count = 0
    while count < 600:
        conversation = writer.kind()
        found = re.search(r"(?:gives|the answer) (-?[\d.]+)\.$", conversation[0]["content"])
        assert found is not None
        answer = conversation[-1]["content"][len("<answer>") : -len("</answer>")]
        count += 1
        if len(conversation) == 2:
            followed += 1
            assert answer == found[1]
        else:
            # Solved with tools, so that the answer is known to be right.
            right += answer == found[1]
    assert 0.42 < followed / count < 0.58
    assert 0.40 < right / (count - followed) < 0.62


def test_shares_say_how_many_problems_are_solved() -> None:
    def share(**shares: float) -> float:
        writer = pretrain_text.Writer("shares", **shares)
        return sum(len(writer.kind()) for _ in range(300)) / 300

    # Solved chains are longer than those that stop too early.
    assert share(singles=1.0, chains=1.0) > share(singles=0.0, chains=0.0) + 0.5


def test_text_without_notes_is_the_shipped_model_s() -> None:
    plain = pretrain_text.Writer("1/pretrain/0")
    explicit = pretrain_text.Writer(
        "1/pretrain/0", singles=pretrain_text.SINGLE_SHARE, chains=pretrain_text.CHAIN_SHARE, notes=0.0
    )
    assert [plain.conversation() for _ in range(50)] == [explicit.conversation() for _ in range(50)]


def test_pretraining_can_go_on_from_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any
) -> None:
    shard = pretrain.write_shard((0, 0, 8, {}))
    monkeypatch.setattr(pretrain, "write_text", lambda seed, documents, processes, **shares: shard)
    monkeypatch.setattr(pretrain, "make_tokenizer", lambda: tokenizer)
    start = tmp_path / "start"
    model = pretrain.make_model(len(tokenizer), hidden=64, layers=1)
    model.save_pretrained(start)
    tokenizer.save_pretrained(start)
    pretrain.pretrain(
        tmp_path / "on", start=str(start), documents=5, learning_rate=1e-9, batch_tokens=1024, chains=0.3
    )
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (start, tmp_path / "on"))
    # At a rate of nothing it is the model that it started from, in half precision.
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(before[name].half().float(), after[name].float(), atol=1e-6, rtol=1e-3)
    origin = json.loads((tmp_path / "on" / "origin.json").read_text())
    assert "--chains 0.3" in origin["command"]
    assert "--start" in origin["command"]
