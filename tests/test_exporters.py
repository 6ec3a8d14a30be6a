"""Exporters: teacher traces as OpenAI chat rows and as a Hugging Face datasets folder."""

import importlib.util
import json
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from mentor_gym.curation import read_source
from mentor_gym.data import DataError, write_tasks
from mentor_gym.exporters import FORMATS, export_file
from mentor_gym.importers import import_file
from mentor_gym.suites import load_suite

SAMPLES = Path(__file__).parent / "import_samples"
SHOP = Path(__file__).parent / "custom_suite" / "suite.yaml"
needs_arrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs the extra data")
needs_datasets = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs datasets")


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_was_imported_comes_out_as_it_was(tmp_path):
    done = import_file("openai", SAMPLES / "openai.jsonl", tmp_path / "set")
    export_file("openai", done.suite, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == read(SAMPLES / "openai.jsonl")
    # And in again: the same suite, and out again the same bytes.
    again = import_file("openai", tmp_path / "out.jsonl", tmp_path / "again", name="set")
    for file in ("train.jsonl", "tools.json", "suite.yaml"):
        assert (again.suite.parent / file).read_bytes() == (done.suite.parent / file).read_bytes()
    export_file("openai", again.suite, tmp_path / "out2.jsonl")
    assert (tmp_path / "out2.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def test_calls_without_results_get_none(tmp_path):
    done = import_file("xlam", SAMPLES / "xlam.json", tmp_path / "set")
    export_file("openai", done.suite, tmp_path / "out.jsonl")
    row = read(tmp_path / "out.jsonl")[0]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert [json.loads(call["function"]["arguments"]) for call in row["messages"][1]["tool_calls"]] == [
        {"city": "Oslo", "unit": "F"},
        {"city": "Lima", "unit": "F"},
    ]


def test_a_suite_of_ours(tmp_path):
    done = export_file("openai", "math", tmp_path / "math", limit=3)
    source = read_source("math")
    assert [path.name for path in done.files] == [f"{split}.jsonl" for split in source.tasks]
    assert done.rows == dict.fromkeys(source.tasks, 3)
    assert done.without_teacher == 0
    task, row = source.tasks["train"][0], read(tmp_path / "math/train.jsonl")[0]
    assert row["messages"] == [{"role": "user", "content": task.prompt}, *task.teacher]
    assert row["messages"][-1]["content"] == f"<answer>{task.answer}</answer>"
    assert [tool["function"]["name"] for tool in row["tools"]] == task.tools
    # As an import: graded by the answer, with the calls' recorded results.
    back = import_file("openai", tmp_path / "math/train.jsonl", tmp_path / "back")
    assert (back.rows, back.dropped) == ({"train": 3}, ())
    assert read_source(back.suite).tasks["train"][0].answer == task.answer


def test_a_file_of_rows_finds_its_suite(tmp_path):
    done = import_file("xlam", SAMPLES / "xlam.json", tmp_path / "set")
    export_file("openai", done.suite.with_name("train.jsonl"), tmp_path / "a.jsonl")
    export_file("openai", done.suite, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    rows = SHOP.with_name("train.jsonl")
    export_file("openai", rows, tmp_path / "c.jsonl")
    assert read(tmp_path / "c.jsonl")[0]["tools"][0]["type"] == "function"
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes(rows.read_bytes())
    with pytest.raises(
        DataError, match=r"alone\.jsonl: task .*: there is no schema of '.*'; name the suite\.yaml"
    ):
        export_file("openai", alone, tmp_path / "d.jsonl")
    assert not (tmp_path / "d.jsonl").exists()


def test_tasks_without_a_teacher_are_left_out_and_counted(tmp_path):
    done = import_file("mentor", SAMPLES / "mentor.jsonl", tmp_path / "set")
    with pytest.raises(ValueError, match="no task has a teacher"):
        export_file("openai", done.suite, tmp_path / "out.jsonl")
    done = import_file("openai", SAMPLES / "openai.jsonl", tmp_path / "chat")
    rows = read(done.suite.with_name("train.jsonl"))
    rows[1]["teacher"] = []
    done.suite.with_name("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = export_file("openai", done.suite, tmp_path / "out.jsonl")
    assert (result.rows, result.without_teacher) == ({"train": 2}, 1)


def test_a_benchmark_is_written_only_when_it_is_wanted(tmp_path):
    rows = tmp_path / "rows.jsonl"
    write_tasks(
        rows, [msgspec.structs.replace(task, suite="bfcl", tools=[]) for task in load_suite("math").tasks("valid")]
    )
    with pytest.raises(ValueError, match=r"rows\.jsonl: the tasks are a benchmark's.*--evaluation-data"):
        export_file("openai", rows, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    done = export_file("openai", rows, tmp_path / "out.jsonl", evaluation_data=True)
    assert done.rows == {"valid": 300}
    assert len(read(tmp_path / "out.jsonl")) == 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "open-ai"}, "unknown format 'open-ai'; known: openai, hf; did you mean 'openai'"),
        ({"limit": 0}, "limit must be"),
        ({"out": SAMPLES}, "exists already; nothing is overwritten"),
        ({"out": SAMPLES / "xlam.json"}, "exists already; nothing is overwritten"),
        ({"source": "mathe"}, "unknown source 'mathe'"),
        ({"splits": ["trian"]}, "no split 'trian'"),
        ({"splits": ["train", "test"]}, r"one file, for one split; choose one of train, test, or a folder"),
        ({"source": SAMPLES / "openai.jsonl"}, r'openai\.jsonl, line 1: field "messages" is unknown'),
        ({"source": SAMPLES / "gone.jsonl"}, r"gone\.jsonl: cannot be read"),
        ({"source": SHOP.with_name("train.jsonl"), "splits": ["test"]}, "no rows of split 'test'; it has train"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    given = {"format": "openai", "source": "math", "out": tmp_path / "out.jsonl", "splits": None, **arguments}
    with pytest.raises(ValueError, match=message):
        export_file(**given)
    assert list(tmp_path.iterdir()) == []
    assert set(FORMATS) == {"openai", "hf"}


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mentor-gym\[data\]'"):
        export_file("hf", "math", tmp_path / "out", ["valid"])
    assert list(tmp_path.iterdir()) == []


# Hugging Face


@needs_arrow
def test_the_folder_says_what_its_columns_are(tmp_path):
    from pyarrow import parquet

    done = export_file("hf", "math", tmp_path / "out", ["test", "ood-tools"], limit=5)
    names = [str(path.relative_to(tmp_path / "out")) for path in done.files]
    assert names == ["data/test-00000-of-00001.parquet", "data/ood-tools-00000-of-00001.parquet", "README.md"]
    schema = parquet.read_schema(done.files[0])
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["tools"] == {"_type": "List", "feature": {"_type": "Json"}}
    assert features["messages"]["feature"]["tool_calls"] == features["tools"]
    card = (tmp_path / "out/README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["configs"][0]["data_files"] == [
        {"split": "test", "path": names[0]},
        {"split": "ood_tools", "path": names[1]},
    ]
    assert "10 rows of" in card


@needs_arrow
def test_the_folder_can_be_imported_again(tmp_path):
    done = import_file("openai", SAMPLES / "openai.jsonl", tmp_path / "set")
    parquet = export_file("hf", done.suite, tmp_path / "hf").files[0]
    again = import_file("openai", parquet, tmp_path / "again")
    assert again.dropped == ()
    wanted, found = (read_source(item.suite).tasks["train"] for item in (done, again))
    assert [(task.prompt, task.answer, task.grader) for task in found] == [
        (task.prompt, task.answer, task.grader) for task in wanted
    ]


@needs_arrow
@needs_datasets
def test_datasets_reads_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    done = import_file("openai", SAMPLES / "openai.jsonl", tmp_path / "set")
    export_file("hf", done.suite, tmp_path / "hf")
    rows = datasets.load_dataset(str(tmp_path / "hf"), split="train", cache_dir=str(tmp_path / "cache"))
    wanted = read(SAMPLES / "openai.jsonl")
    assert len(rows) == 3
    for row, source in zip(rows, wanted):
        assert row["tools"] == source["tools"]
        for message, given in zip(row["messages"], source["messages"], strict=True):
            assert {key: message[key] for key in ("role", "content")} == {
                key: given[key] for key in ("role", "content")
            }
            calls = [call["function"]["arguments"] for call in message["tool_calls"] or []]
            # Objects with the keys that the call has, and no others: chat templates write them as JSON.
            assert calls == [json.loads(call["function"]["arguments"]) for call in given.get("tool_calls", [])]


@pytest.mark.slow
@needs_arrow
@needs_datasets
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the extra bench")
def test_trl_trains_on_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    export_file("hf", "math", tmp_path / "hf", ["train"], limit=8)
    rows = datasets.load_dataset(str(tmp_path / "hf"), split="train", cache_dir=str(tmp_path / "cache"))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate(["<pad>", "<end>", *letters])}
    raw = Tokenizer(models.BPE(words, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<end>")
    tokenizer.chat_template = (
        "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
        "{% for message in messages %}{{ message.role }}: {% if message.content %}{{ message.content }}{% endif %}"
        "{% for call in message.tool_calls or [] %}{{ call.function.name }} {{ call.function.arguments | tojson }}"
        "{% endfor %}<end>{% endfor %}"
    )
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
    )
    settings = SFTConfig(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=2,
        max_length=4096,
        report_to="none",
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
    )
    trainer = SFTTrainer(
        model=LlamaForCausalLM(config), args=settings, train_dataset=rows, processing_class=tokenizer
    )
    text = tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    first = read_source("math", ["train"]).tasks["train"][0]
    call = first.teacher[0]["tool_calls"][0]["function"]
    assert f"assistant: {call['name']} {call['arguments']}<end>" in text
    assert first.prompt in text
    assert trainer.train().training_loss > 0
