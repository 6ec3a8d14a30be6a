"""Models by name: what is found, and what is said when nothing is."""

from __future__ import annotations

import contextlib

import pytest
import torch
from small_models import make_model, make_tokenizer
from transformers import AutoTokenizer
from transformers.utils import logging

from agents.models import TINY, load_model, quiet


@pytest.fixture
def folder(tmp_path):
    with quiet():
        make_model().save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_embedded_model_loads():
    model, tokenizer = load_model("tiny")
    assert not model.training
    assert model.dtype == torch.float32
    assert model.name_or_path == tokenizer.name_or_path == str(TINY)
    assert len(tokenizer) <= model.get_input_embeddings().num_embeddings


def test_a_folder_loads_in_the_data_type_asked_for(folder):
    model, tokenizer = load_model(str(folder), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert tokenizer.chat_template == make_tokenizer().chat_template
    weight = make_model().lm_head.weight
    assert torch.equal(model.lm_head.weight, weight.to(torch.bfloat16))


@pytest.mark.parametrize("name", ["runs/grpo/final", "./model", "/nowhere/model", "~/model"])
def test_a_missing_folder_is_not_looked_for_elsewhere(name):
    with pytest.raises(ValueError, match=f"^model '{name}': no such folder$"):
        load_model(name)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no model folder \(it has no config.json\)"):
        load_model(str(tmp_path))


def test_a_damaged_folder_is_refused(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=f"model '{folder}' cannot be loaded: "):
        load_model(str(folder))


@pytest.mark.parametrize(("name", "meant"), [("smolm2", "smollm2"), ("Tiny", "tiny")])
def test_a_misspelt_name_is_recognised(name, meant, monkeypatch):
    def missing(path):
        raise OSError(f"{path} is not on the hub")

    # Without it the name would be looked for on the network, as the Hugging Face id that it could be.
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(ValueError, match=f"cannot be loaded: {name} is not on the hub; did you mean '{meant}'"):
        load_model(name)


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_are_hidden_and_come_back(shown):
    before = logging.is_progress_bar_enabled()
    try:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        with contextlib.suppress(RuntimeError), quiet():
            assert not logging.is_progress_bar_enabled()
            raise RuntimeError("inside")
        assert logging.is_progress_bar_enabled() == shown
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
