"""Packed conversations against the model's own forward on one conversation at a time."""

from __future__ import annotations

import copy
import itertools
import random
import warnings

import numpy as np
import pytest
import torch
from small_models import make_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import agents.plan
from agents import packed
from agents.lora import adapter_state, add_lora, load_adapter_state
from agents.packed import Reference, action_logprobs, action_outputs, enable_checkpointing, micro_batches, packs
from agents.trajectory import Batch, Trajectory, pack, read_ids
from mentor_gym.types import StopReason

SIZES = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "bos_token_id": None,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": None,
    "pad_token_id": None, "initializer_range": 0.2,
}  # fmt: skip
GPT2 = {
    "vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.2,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
# Which models run packed. The window of 16 is shorter than the trial's conversations; that of 32 is longer than
# them, and shorter than those below.
MODELS = {
    "llama": (lambda: make_model(vocab_size=100), True),
    "qwen2": (lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)), True),
    "qwen3": (lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)), True),
    "granite": (lambda: GraniteForCausalLM(GraniteConfig(**SIZES, attention_multiplier=0.9)), True),
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(**GPT2)), True),
    "mistral-16": (lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)), False),
    "mistral-32": (lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=32)), True),
    "gemma2": (
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, query_pre_attn_scalar=8)),
        False,
    ),
}


def trajectory(ids: list[int], mask: list[bool], rewards: list[float] | None = None) -> Trajectory:
    logprobs = [-0.1 * t if sampled else 0.0 for t, sampled in enumerate(mask)]
    return Trajectory(
        "task", "policy", ids, mask, logprobs, rewards or [0.0] * len(ids), {}, False, StopReason.ANSWER, [], None
    )  # fmt: skip


def make_groups(seed: int = 0, groups: int = 3, size: int = 5) -> list[list[Trajectory]]:
    """Conversations of few different tokens, so that those of a group part at any depth, or not at all."""
    chance = random.Random(seed)
    made = []
    for _ in range(groups):
        prompt = [chance.randrange(100) for _ in range(chance.randint(4, 20))]
        rows = []
        for _ in range(size):
            ids, mask = list(prompt), [False] * len(prompt)
            for _ in range(chance.randint(1, 3)):
                for sampled, longest in ((True, 6), (False, 4)):
                    count = chance.randint(1, longest)
                    ids += [chance.randrange(2) for _ in range(count)]
                    mask += [sampled] * count
            rows.append(trajectory(ids, mask))
        made.append(rows)
    # Twice the same, and one that another one goes on from.
    made[0][1] = made[0][0]
    last = len(made[1][0].action_mask) - made[1][0].action_mask[::-1].index(True)
    made[1][1] = trajectory(made[1][0].token_ids[: last - 1], made[1][0].action_mask[: last - 1])
    made[1][2] = trajectory(prompt, [False] * len(prompt))
    return made


def one_by_one(model, groups, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities, entropies and final hidden states of the sampled tokens, by the model's own forward."""
    found = []
    for row in (row for group in groups for row in group):
        output = model(torch.tensor([row.token_ids]), output_hidden_states=True)
        logprobs = torch.log_softmax(output.logits[0].float() / temperature, -1)
        places = [t for t, sampled in enumerate(row.action_mask) if sampled]
        reads = [t - 1 for t in places]
        entropies = torch.special.entr(logprobs[reads].exp()).sum(-1)
        targets = torch.tensor([row.token_ids[t] for t in places], dtype=torch.long)
        states = output.hidden_states[-1][0, reads]
        found.append((logprobs[reads].gather(1, targets[:, None])[:, 0], entropies, states))
    width = max(len(logprobs) for logprobs, _, _ in found)

    def padded(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, values.new_zeros(width - len(values), *values.shape[1:])])

    return tuple(torch.stack([padded(row[i]) for row in found]) for i in range(3))  # type: ignore[return-value]


def gradients(model, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = 1e-5) -> None:
    assert len(found) == len(expected)
    largest = max(float(b.abs().max()) for b in expected)
    assert largest > 1e-2
    for a, b in zip(found, expected):
        assert torch.allclose(a, b, rtol=1e-4, atol=tolerance * largest)


@pytest.fixture(scope="module")
def model():
    return make_model(vocab_size=100)


@pytest.fixture(scope="module")
def groups():
    return make_groups()


def test_a_batch_by_hand():
    short = trajectory([1, 2, 3, 4], [False, False, True, True], [0, 0, 0, 0.5])
    long = trajectory([1, 2, 3, 5, 9, 6, 7], [False, False, True, True, False, True, False], [0, 0, 0, 1, 0, 2, 0])
    other = trajectory([1, 2, 8], [False, False, True])
    batch = Batch.from_groups([[long, short], [other]])
    # 6 predicts nothing that was sampled, so it need not be read.
    assert batch.input_ids_N.tolist() == [1, 2, 3, 5, 9, 1, 2]
    assert batch.position_ids_N.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert batch.layout.ends_N.tolist() == [5, 5, 5, 5, 5, 7, 7]
    assert batch.read_BT.tolist() == [[1, 2, 4], [1, 2, 0], [6, 0, 0]]
    assert batch.target_ids_BT.tolist() == [[3, 5, 6], [3, 4, 0], [8, 0, 0]]
    assert batch.action_mask_BT.tolist() == [[True, True, True], [True, True, False], [True, False, False]]
    assert batch.rewards_BT.tolist() == [[0, 1, 2], [0, 0.5, 0], [0, 0, 0]]
    assert batch.turn_BT.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert batch.old_logprobs_BT[0].tolist() == pytest.approx([-0.2, -0.3, -0.5])
    assert batch.group_B.tolist() == [0, 0, 1]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_layout_shows_every_token_what_stands_before_it_and_nothing_else(share, seed):
    groups = make_groups(seed)
    batch = Batch.from_groups(groups, share)
    rows = [row for group in groups for row in group]
    for places, row in zip(batch.layout.rows, rows):
        last = max((t for t, sampled in enumerate(row.action_mask) if sampled), default=0)
        assert batch.input_ids_N[places].tolist() == row.token_ids[:last]
        assert batch.position_ids_N[places].tolist() == list(range(last))
        for t, place in enumerate(places):
            seen = [k for k in range(place + 1) if place < batch.layout.ends_N[k]]
            assert seen == places[: t + 1].tolist()
    used = np.concatenate(batch.layout.rows)
    assert sorted(set(used)) == list(range(len(batch.input_ids_N)))
    assert (len(set(used)) == len(used)) == (not share)


def test_what_was_read_before_is_not_read_again():
    row = trajectory([1, 2, 3, 4], [False, False, True, True])
    batch = Batch.from_groups([[row] * 8])
    assert batch.input_ids_N.tolist() == [1, 2, 3]
    assert len(Batch.from_groups([[row] * 8], share_prefix=False).input_ids_N) == 24
    # Another group's tokens are another task's, whatever they are.
    assert len(Batch.from_groups([[row]] * 8).input_ids_N) == 24


def test_nothing_predicts_a_token_at_the_start():
    with pytest.raises(ValueError, match="begins with a sampled token"):
        Batch.from_groups([[trajectory([1, 2], [True, True])]])


@pytest.mark.parametrize("limit", [1, 20, 35, 60, 10_000])
def test_micro_batches_hold_every_trajectory_once_within_the_limit(limit):
    groups = make_groups(groups=4, size=6)
    rows = [row for group in groups for row in group]
    batches = micro_batches(groups, limit)
    assert sorted(i for batch in batches for part in batch for i in part) == list(range(len(rows)))
    sizes = []
    for batch in batches:
        assert all(len({i // 6 for i in part}) == 1 for part in batch)
        sizes.append(len(Batch.from_groups([[rows[i] for i in part] for part in batch]).input_ids_N))
        assert sizes[-1] <= limit or sum(map(len, batch)) == 1
    # No two neighbours would have fitted together.
    assert all(a + b > limit for a, b in itertools.pairwise(sizes))
    assert (len(batches) == 1) == (limit == 10_000)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*does not compute the same")
def test_packed_equals_the_model_s_own_forward(name, share, groups):
    build, expected_to_pack = MODELS[name]
    torch.manual_seed(1)
    model = build().eval()
    assert packs(model) == expected_to_pack
    before = model.config._attn_implementation
    batch = Batch.from_groups(groups, share)
    weights = torch.linspace(-1, 1, batch.read_BT.numel()).view(batch.read_BT.shape)
    expected, _, _ = one_by_one(model, groups, temperature=0.7)
    found = action_logprobs(model, batch, temperature=0.7)
    assert torch.allclose(found, expected, atol=1e-4)
    assert found.dtype == torch.float32
    assert not found[~batch.action_mask_BT].any()
    assert model.config._attn_implementation == before
    assert_close(gradients(model, (weights * found).sum()), gradients(model, (weights * expected).sum()))


def test_a_conversation_that_outgrows_a_sliding_window_is_not_packed(monkeypatch):
    model = MODELS["mistral-32"][0]().eval()
    calls = []
    one = packed._one_by_one
    monkeypatch.setattr(packed, "_one_by_one", lambda *args: calls.append(1) or one(*args))
    for length, expected in ((33, 0), (34, 1)):
        # The last token is not read.
        row = trajectory(list(range(length)), [False] * 5 + [True] * (length - 5))
        with torch.no_grad():
            action_logprobs(model, Batch.from_groups([[row, row]]))
        assert len(calls) == expected


@pytest.mark.parametrize("kind", ["soft cap", "recurrent"])
def test_a_model_is_tried_once_and_warned_about(kind):
    if kind == "soft cap":
        # Of weights so small that the cap does nothing yet.
        sizes = {**SIZES, "initializer_range": 0.002, "final_logit_softcapping": None}
        model = Gemma2ForCausalLM(Gemma2Config(**sizes, head_dim=8)).eval()
    else:
        model = make_model()
        # Stands for any layer that reads what stands before a token in the packed row.
        layer = model.model.layers[0].mlp
        forward = layer.forward
        layer.forward = lambda states: forward(states) + states.cumsum(dim=1)
    with pytest.warns(UserWarning, match="one conversation at a time"):
        assert not packs(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not packs(model)


def test_a_trial_leaves_a_model_in_training_mode_there():
    model = make_model(attention_dropout=0.5).train()
    assert packs(model)
    assert model.training
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("call_cost", [0, 10**15])
@pytest.mark.parametrize("key_cost", [0, 10**9])
def test_how_attention_is_cut_does_not_matter(model, groups, monkeypatch, call_cost, key_cost):
    expected, _, _ = one_by_one(model, groups)
    monkeypatch.setattr(agents.plan, "_CALL_COST", {"cpu": call_cost})
    monkeypatch.setattr(agents.plan, "_KEY_COST", key_cost)
    batch = Batch.from_groups(groups)
    found = action_logprobs(model, batch)
    (plan,) = batch.layout.plans.values()
    # Keys that cost nothing are gathered for every branch; those that cost much, once for a tree.
    blocks = sum(len(mask) for mask in plan.masks)
    assert blocks == len(groups) if key_cost else blocks > 4 * len(groups)
    assert (len(plan.masks) == 1) == (call_cost > 0)
    # A query that may read nothing, even one of the padding, makes some kernels return NaN.
    assert not any(mask.isneginf().all(dim=-1).any() for mask in plan.masks)
    assert torch.allclose(found, expected, atol=1e-4)
    assert_close(gradients(model, found.sum()), gradients(model, expected.sum()))


@pytest.mark.parametrize("name", ["llama", "gemma2"])
@pytest.mark.parametrize("budget", [None, 500, 1])
@pytest.mark.filterwarnings("ignore:.*does not compute the same")
def test_entropies_values_and_chunks_of_logits(groups, monkeypatch, name, budget):
    torch.manual_seed(1)
    model = MODELS[name][0]().eval()
    head = torch.nn.Linear(32, 1)
    if budget:
        monkeypatch.setattr(packed, "LOGITS_BUDGET", budget)
    packs(model)
    rows: list[int] = []
    model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, logits: rows.append(logits[..., 0].numel())
    )
    batch = Batch.from_groups(groups)
    logprobs, entropies, states = one_by_one(model, groups, temperature=1.3)
    rows.clear()
    found = action_outputs(model, batch, 1.3, head, entropy=True)
    if name == "llama":
        # Every output once; no more logits at a time than the budget has.
        assert sum(rows) == len(batch.read_BT[batch.action_mask_BT].unique())
        assert max(rows) == {None: sum(rows), 500: 5, 1: 1}[budget]
    mask = batch.action_mask_BT
    values = torch.zeros(mask.shape).masked_scatter(mask, head(states[mask])[:, 0])
    for a, b in ((found.logprobs_BT, logprobs), (found.entropy_BT, entropies), (found.values_BT, values)):
        assert torch.allclose(a, b, atol=1e-4)
        assert not a[~mask].any()
    weights = torch.linspace(-1, 1, mask.numel()).view(mask.shape)
    losses = [
        (weights * (a + 0.5 * b + 0.25 * c)).sum()
        for a, b, c in ((found.logprobs_BT, found.entropy_BT, found.values_BT), (logprobs, entropies, values))
    ]
    both = torch.nn.ModuleList([model, head])
    first = rows[0]
    rows.clear()
    received = gradients(both, losses[0])
    if name == "llama":
        # Only the first chunk's logits were kept.
        assert sum(rows) == len(batch.read_BT[mask].unique()) - first
    assert_close(received, gradients(both, losses[1]))
    with torch.no_grad():
        assert torch.allclose(action_logprobs(model, batch, 1.3), logprobs, atol=1e-4)


def test_a_token_that_is_ruled_out_does_not_spoil_the_entropy(groups):
    model = make_model(vocab_size=100)
    bias = torch.zeros(100)
    bias[99] = -torch.inf
    model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    _, entropies, _ = one_by_one(model, groups)
    found = action_outputs(model, Batch.from_groups(groups), entropy=True)
    assert torch.allclose(found.entropy_BT, entropies, atol=1e-4)
    assert all(gradient.isfinite().all() for gradient in gradients(model, found.entropy_BT.sum()))


@pytest.mark.parametrize("name", ["llama", "mistral-16"])
@pytest.mark.filterwarnings("ignore:.*does not compute the same")
def test_checkpointing_computes_layers_twice_and_changes_no_gradient(groups, name):
    model = MODELS[name][0]().eval()
    batch = Batch.from_groups(groups)
    expected = gradients(model, action_logprobs(model, batch).sum())
    calls = []
    model.base_model.layers[0].mlp.register_forward_pre_hook(lambda *args: calls.append(1))
    packs(model)
    counts = {}
    for enabled in (False, True):
        if enabled:
            enable_checkpointing(model)
        calls.clear()
        logprobs = action_logprobs(model, batch)
        forward = len(calls)
        assert_close(gradients(model, logprobs.sum()), expected)
        counts[enabled] = len(calls) / forward
    assert counts == {False: 1, True: 2}
    assert not any("forward" in vars(layer) for layer in model.base_model.layers)
    calls.clear()
    with torch.no_grad():
        action_logprobs(model, batch)
    assert len(calls) == forward


def test_adapters_are_trained_alone_and_their_absence_is_the_reference(model, groups):
    adapted = copy.deepcopy(model)
    add_lora(adapted, rank=4)
    state = adapter_state(adapted)
    load_adapter_state(adapted, {name: value + 0.1 for name, value in state.items()})
    batch = Batch.from_groups(groups)
    expected, _, _ = one_by_one(adapted, groups)
    found = action_logprobs(adapted, batch)
    assert torch.allclose(found, expected, atol=1e-4)
    assert_close(gradients(adapted, found.sum()), gradients(adapted, expected.sum()))
    assert all((p.grad is not None) == ("lora" in name) for name, p in adapted.named_parameters())
    reference = Reference(adapted)
    assert reference.model is adapted
    with torch.no_grad():
        start = action_logprobs(model, batch)
    assert torch.allclose(reference.logprobs(batch), start, atol=1e-5)
    assert (found - start).abs().max() > 1e-2


def test_a_reference_stays_where_the_model_was(model, groups):
    policy = copy.deepcopy(model)
    reference = Reference(policy)
    batch = Batch.from_groups(groups)
    before = action_logprobs(policy, batch, 0.7).detach()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.2)
    assert torch.allclose(reference.logprobs(batch, 0.7), before)
    assert (action_logprobs(policy, batch, 0.7) - before).abs().max() > 1e-2
    assert not reference.logprobs(batch).requires_grad
    assert not any(parameter.requires_grad for parameter in reference.model.parameters())


def test_half_precision_is_close(model, groups):
    half = copy.deepcopy(model).bfloat16()
    assert packs(half)
    found = action_logprobs(half, Batch.from_groups(groups))
    assert found.dtype == torch.float32
    expected, _, _ = one_by_one(half, groups)
    assert (found - expected).abs().mean() < 0.05


def test_rows_and_batches_without_sampled_tokens(model):
    talk, silence = trajectory([1, 2, 3], [False, True, True]), trajectory([1, 2], [False, False])
    batch = Batch.from_groups([[silence, talk], [silence]])
    found = action_outputs(model, batch, entropy=True, value_head=torch.nn.Linear(32, 1))
    assert found.logprobs_BT.shape == found.entropy_BT.shape == found.values_BT.shape == (3, 2)
    assert found.logprobs_BT.ne(0).tolist() == [[False, False], [True, True], [False, False]]
    empty = action_outputs(model, Batch.from_groups([[silence]]), entropy=True)
    assert empty.logprobs_BT.shape == empty.entropy_BT.shape == (1, 0)
    assert empty.values_BT is None


def test_packing_is_undone_by_its_rows():
    groups = make_groups(3)
    conversations = [[read_ids(row) for row in group] for group in groups]
    ids, positions, layout = pack(conversations)
    for places, conversation in zip(layout.rows, (row for group in conversations for row in group)):
        assert np.array_equal(ids[places], conversation)
        assert np.array_equal(positions[places], np.arange(len(conversation)))
