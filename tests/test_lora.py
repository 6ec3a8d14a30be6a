"""Adapters: they start as nothing, can be switched off, and merge into a plain model."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from small_models import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from agents.base import Observation
from agents.llm import LLMAgent
from agents.lora import (
    adapter_state,
    adapters_off,
    add_lora,
    effective_weight,
    has_lora,
    load_adapter_state,
    merged_state_dict,
    save_merged,
)

IDS = torch.arange(40).reshape(2, 20)


def make_gpt2() -> GPT2LMHeadModel:
    """Its linear layers are `Conv1D`, with weights stored [in, out], and its embeddings are tied."""
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 300}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=None, eos_token_id=None)).eval()


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def disturb(model, seed: int = 1) -> None:
    """Give the adapters weights that change the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3, generator=generator)


@pytest.fixture(params=[make_model, make_gpt2], ids=["llama", "gpt2"])
def plain(request):
    return request.param


def test_only_adapters_of_all_linear_layers_but_the_output_are_trained():
    model = make_model()
    assert not has_lora(model)
    add_lora(model, rank=4)
    assert has_lora(model)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    layers = {name.split(".lora_")[0].split(".")[-1] for name in trained}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    # rank * (in + out) of each: q, o 32+32; k, v 32+16; gate, up 32+48, down 48+32; two layers.
    assert sum(value.numel() for value in trained.values()) == 4 * 2 * (2 * 64 + 2 * 48 + 3 * 80)
    model(IDS).logits.square().mean().backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == set(trained)


def test_fresh_adapters_change_nothing_and_trained_ones_can_be_switched_off(plain):
    model = plain()
    base = logits(model)
    add_lora(model, rank=4)
    assert torch.equal(logits(model), base)
    disturb(model)
    changed = logits(model)
    assert (changed - base).abs().max() > 0.1
    with adapters_off(model):
        assert torch.equal(logits(model), base)
        with adapters_off(model):
            assert torch.equal(logits(model), base)
        assert torch.equal(logits(model), base), "the inner block must not switch them on"
    assert torch.equal(logits(model), changed)


def test_switching_off_leaves_alone_what_is_trained():
    model = make_model()
    add_lora(model, rank=2)
    frozen = next(value for value in model.parameters() if value.requires_grad).requires_grad_(False)
    head = model.get_output_embeddings().weight.requires_grad_(True)
    before = [value.requires_grad for value in model.parameters()]
    loss = model(IDS).logits.square().mean()
    with pytest.raises(RuntimeError, match="inside"), adapters_off(model):
        raise RuntimeError("inside")
    assert [value.requires_grad for value in model.parameters()] == before
    loss.backward()
    assert frozen.grad is None
    assert head.grad is not None
    plain = make_model()
    with adapters_off(plain):
        assert all(value.requires_grad for value in plain.parameters())


def test_the_seed_alone_decides_the_adapters():
    states = []
    for seed in (3, 3, 4):
        model = make_model()
        torch.rand(len(states) + 1)
        before = torch.get_rng_state()
        add_lora(model, rank=4, seed=seed)
        assert torch.equal(torch.get_rng_state(), before), "the global generator must not move"
        states.append(adapter_state(model))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    name = next(name for name in states[0] if "lora_A" in name)
    assert not torch.equal(states[0][name], states[2][name])


def test_the_scale_is_alpha_over_rank():
    weight = make_model().model.layers[0].mlp.up_proj.weight
    for alpha, scale in ((0.0, 2.0), (6.0, 1.5), (1.0, 0.25)):
        model = make_model()
        add_lora(model, rank=4, alpha=alpha)
        disturb(model)
        layer = model.model.layers[0].mlp.up_proj
        change = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        torch.testing.assert_close(effective_weight(layer), weight + scale * change)


def test_effective_weight_is_what_a_layer_multiplies_with(plain):
    model = plain()
    output = model.get_output_embeddings()
    assert effective_weight(output).data_ptr() == output.weight.data_ptr()
    add_lora(model, rank=4)
    disturb(model)
    name, layer = next((name, module) for name, module in model.named_modules() if hasattr(module, "base_layer"))
    weight = effective_weight(layer)
    assert not weight.requires_grad
    matrix = weight if plain is make_model else weight.T
    inputs = torch.randn(5, matrix.shape[1], generator=torch.Generator().manual_seed(2))
    bias = layer.base_layer.bias
    for _ in range(2):
        torch.testing.assert_close(layer(inputs), torch.nn.functional.linear(inputs, matrix, bias))
    with adapters_off(model):
        assert torch.equal(effective_weight(layer), plain().get_submodule(name).weight)


def test_merged_weights_load_into_a_plain_model(plain, tmp_path):
    model = plain()
    add_lora(model, rank=4)
    disturb(model)
    wanted = logits(model)
    merged = merged_state_dict(model)
    other = plain()
    assert merged.keys() == other.state_dict().keys()
    other.load_state_dict(merged, strict=True)
    torch.testing.assert_close(logits(other), wanted, atol=1e-5, rtol=1e-5)
    with adapters_off(model):
        assert all(torch.equal(value, merged[name]) for name, value in merged_state_dict(model).items())
    assert torch.equal(logits(model), wanted), "merging must leave the model as it is"
    model.generation_config.max_new_tokens = 77
    save_merged(model, tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("adapter*"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(loaded), wanted, atol=1e-5, rtol=1e-5)
    assert loaded.generation_config.max_new_tokens == 77


def test_a_plain_model_is_saved_as_it_is(tmp_path):
    model = make_model()
    assert merged_state_dict(model).keys() == model.state_dict().keys()
    save_merged(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(model))


def test_an_agent_samples_from_adapters_that_it_got_later():
    # As a training run does it; disturbing them stands for an update.
    agent = LLMAgent((make_model(), make_tokenizer()), max_new_tokens=12)
    add_lora(agent.model, rank=4)
    for seed in (1, 2):
        disturb(agent.model, seed)
        messages = [{"role": "user", "content": "hi"}]
        completion = agent.act([Observation("hi", messages, episode=seed, turn=0, seed=0)])[0]
        ids = [*completion.prompt_ids, *completion.token_ids]
        with torch.no_grad():
            expected = agent.model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        start = len(completion.prompt_ids)
        found = [float(expected[at - 1, ids[at]]) for at in range(start, len(ids))]
        torch.testing.assert_close(torch.tensor(completion.logprobs), torch.tensor(found), atol=1e-4, rtol=1e-4)


def test_adapters_of_a_half_precision_model_are_kept_in_full(tmp_path):
    model = make_model().to(torch.bfloat16)
    add_lora(model, rank=4)
    state = adapter_state(model)
    assert {value.dtype for value in state.values()} == {torch.float32}
    disturb(model)
    merged = merged_state_dict(model)
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}
    assert logits(model).dtype == torch.bfloat16


def test_adapters_can_be_kept_and_put_back():
    model = make_model()
    add_lora(model, rank=4)
    disturb(model, seed=1)
    kept, wanted = adapter_state(model), logits(model)
    disturb(model, seed=2)
    versions = sum(value._version for value in model.parameters())
    assert not torch.equal(logits(model), wanted), "the copy must not follow the model"
    load_adapter_state(model, kept)
    assert torch.equal(logits(model), wanted)
    # In place, so that what is cached by the parameters' versions notices.
    assert sum(value._version for value in model.parameters()) > versions
    # The same folder's model with fresh adapters becomes the same model.
    other = make_model()
    add_lora(other, rank=4, seed=9)
    load_adapter_state(other, kept)
    assert torch.equal(logits(other), wanted)


@pytest.mark.parametrize(
    ("rank", "layers", "message"),
    [(8, 2, r"q_proj.lora_A.default.weight is \(4, 32\), got \(8, 32\)"), (4, 1, "14 names differ")],
)
def test_adapters_of_another_shape_are_refused(rank, layers, message):
    model, other = make_model(), make_model(num_hidden_layers=layers)
    add_lora(model, rank=4)
    before = adapter_state(model)
    add_lora(other, rank=rank, seed=1)
    with pytest.raises(ValueError, match=message):
        load_adapter_state(model, adapter_state(other))
    assert all(torch.equal(value, before[name]) for name, value in adapter_state(model).items())


def test_wrong_requests_are_refused():
    model = make_model()
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        add_lora(model, rank=0)
    assert not has_lora(model)
    add_lora(model, rank=1)
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(model, rank=1)


def test_without_peft_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match="needs peft, which is not installed: pip install peft"):
        add_lora(make_model(), rank=4)


def test_peft_is_imported_only_when_adapters_are_added():
    code = (
        "import sys, agents.lora as lora, torch\n"
        "layer = torch.nn.Linear(2, 2)\n"
        "assert not lora.has_lora(layer) and lora.effective_weight(layer) is not None\n"
        "assert 'peft' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
