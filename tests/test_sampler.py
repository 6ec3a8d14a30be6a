"""Sampling is exact: what is stored is what a fresh forward pass over the stored tokens gives."""

from __future__ import annotations

import pytest
import torch
from small_models import make_model, make_tokenizer
from transformers import MistralConfig, MistralForCausalLM

from agents.base import Observation
from agents.conversation import Conversation
from agents.llm import LLMAgent


@pytest.fixture(scope="module")
def pair():
    return make_model(), make_tokenizer()


def play(agent: LLMAgent, count: int, turns: int = 3, same: bool = False):
    """Let episodes of different lengths run; returns each episode's tokens, mask and log-probabilities."""
    records = [Conversation() for _ in range(count)]
    live = list(range(count))
    for turn in range(turns):
        observations = [
            Observation(
                text=(
                    f"result {'x' * (60 if i % 9 == 4 else i % 5)}" if turn else f"question {0 if same else i % 3}"
                ),
                messages=[{"role": "user", "content": f"question {0 if same else i % 3}"}] if not turn else [],
                episode=100 + i,
                turn=turn,
            )
            for i in live
        ]
        for i, completion in zip(list(live), agent.act(observations)):
            records[i].extend_observation(completion.prompt_ids)
            records[i].extend_action(completion.token_ids, completion.logprobs)
            # Some episodes end early, in the middle of the batch.
            if (i + turn) % 4 == 3:
                live.remove(i)
                agent.forget(100 + i)
    return records


def fresh_logprobs(model, ids: list[int], temperature: float) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].float() / temperature
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


@pytest.mark.parametrize("count", [1, 32])
@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_equal_a_fresh_forward(pair, count, turns, temperature):
    agent = LLMAgent(pair, temperature=temperature, max_new_tokens=24, seed=1)
    # A random model hardly ever ends a turn: let many tokens do so.
    agent.sampler.stop_ids |= set(range(0, 300, 8))
    lengths = set()
    for record in play(agent, count, turns):
        expected = fresh_logprobs(pair[0], record.token_ids, temperature)
        mask = torch.tensor(record.action_mask[1:])
        stored = torch.tensor(record.logprobs[1:])
        assert mask.any()
        assert torch.allclose(stored[mask], expected[mask], atol=1e-4)
        assert not stored[~mask].any()
        lengths.add(len(record.token_ids))
    assert count == 1 or len(lengths) > 3, "rows must end at different times for this test to mean anything"


def test_greedy_equals_generate(pair):
    model = pair[0]
    agent = LLMAgent(pair, temperature=0.0, max_new_tokens=20)
    for completion in agent.act([observe(i, f"question {i}") for i in range(5)]):
        prompt = torch.tensor([completion.prompt_ids])
        stop = sorted(agent.sampler.stop_ids)
        expected = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20, eos_token_id=stop,
            pad_token_id=0,
        )[0, prompt.shape[1] :].tolist()  # fmt: skip
        assert completion.token_ids == expected[: len(completion.token_ids)]
        # Only a stop text may end a turn before generate does.
        assert len(completion.token_ids) == len(expected) or completion.text.endswith(
            ("</answer>", "</tool_call>")
        )


def observe(episode: int, text: str = "question", turn: int = 0) -> Observation:
    return Observation(text, [{"role": "user", "content": text}] if not turn else [], episode, turn)


def force(agent: LLMAgent, text: str) -> None:
    """Let the agent write a fixed text, then token 65 for ever."""
    ids = agent.tokenizer.encode(text, add_special_tokens=False)
    counts: dict[int, int] = {}

    def draw(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        counts[0] = counts.get(0, -1) + 1
        token = ids[counts[0]] if counts[0] < len(ids) else 65
        return torch.full((len(logits),), token), torch.zeros(len(logits))

    agent.sampler._draw = draw


@pytest.mark.parametrize(
    ("text", "ends"), [("a</answer>", True), ("b</tool_call>", True), ("</tool_response> a > b", False)]
)
def test_a_stop_text_ends_the_turn(pair, text, ends):
    agent = LLMAgent(pair, max_new_tokens=40)
    force(agent, text)
    (completion,) = agent.act([observe(0)])
    assert completion.cut_off is not ends
    assert completion.text == text if ends else len(completion.token_ids) == 40


def test_an_end_of_turn_token_is_kept_as_token_but_not_as_text(pair):
    agent = LLMAgent(pair, max_new_tokens=40)
    force(agent, "hello<|im_end|>")
    (completion,) = agent.act([observe(0)])
    assert completion.text == "hello"
    assert completion.token_ids[-1] == agent.tokenizer.eos_token_id
    assert not completion.cut_off
    del agent.sampler._draw
    (later,) = agent.act([observe(0, "result", turn=1)])
    assert later.prompt_ids[0] != agent.tokenizer.eos_token_id


def test_limits_cut_off(pair):
    agent = LLMAgent(pair, max_new_tokens=8, max_context=40)
    force(agent, "")
    short, long = agent.act([observe(0, "hi"), observe(1, "x" * 60)])
    assert short.cut_off
    assert len(short.token_ids) == min(8, 40 - len(short.prompt_ids))
    assert long.cut_off
    assert long.token_ids == []


def test_forgotten_and_mixed_episodes_are_computed_anew(pair):
    """Whatever the cache holds, the log-probabilities are those of the whole conversation."""
    agent = LLMAgent(pair, max_new_tokens=12, seed=2)
    records: dict[int, Conversation] = {}

    def act(*observations: Observation) -> None:
        for observation, completion in zip(observations, agent.act(observations)):
            record = records.setdefault(observation.episode, Conversation())
            record.extend_observation(completion.prompt_ids)
            record.extend_action(completion.token_ids, completion.logprobs)

    act(observe(0), observe(1, "other question"), observe(2))
    act(observe(2, "r", 1), observe(0, "longer result", 1))
    act(observe(3, "new"), observe(1, "r", 1))
    act(observe(0, "r", 2), observe(3, "r", 1))
    agent.sampler._cache = None
    act(observe(3, "r", 2))
    for record in records.values():
        mask = torch.tensor(record.action_mask[1:])
        expected = fresh_logprobs(pair[0], record.token_ids, 1.0)[mask]
        assert torch.allclose(torch.tensor(record.logprobs[1:])[mask], expected, atol=1e-4)


def test_new_weights_empty_the_cache():
    model = make_model()
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=6)
    first = agent.act([observe(0)])[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    second = agent.act([observe(0, "r", 1)])[0]
    before = first.prompt_ids + first.token_ids + second.prompt_ids
    expected = fresh_logprobs(model, before + second.token_ids, 1.0)[len(before) - 1 :]
    assert torch.allclose(torch.tensor(second.logprobs), expected, atol=1e-4)


def test_models_with_a_sliding_window_are_exact_too():
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=16, initializer_range=0.2, eos_token_id=None,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=12)
    assert not agent.sampler.packs
    for record in play(agent, 4):
        expected = fresh_logprobs(model, record.token_ids, 1.0)
        mask = torch.tensor(record.action_mask[1:])
        assert torch.allclose(torch.tensor(record.logprobs[1:])[mask], expected[mask], atol=1e-4)


def test_the_seed_decides_and_the_global_generator_is_untouched(pair):
    def texts(seed: int) -> list[str]:
        agent = LLMAgent(pair, max_new_tokens=10, seed=seed)
        return [completion.text for completion in agent.act([observe(i) for i in range(4)])]

    before = torch.random.get_rng_state()
    first = texts(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == texts(0)
    assert first != texts(1)
    assert len(set(first)) > 1, "equal prompts must still be sampled apart"


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_in_proportion(pair, temperature):
    agent = LLMAgent(pair, temperature=temperature)
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05, 0.0])
    logits = probabilities.log()[None].expand(20_000, -1)
    tokens, logprobs = agent.sampler._draw(logits)
    expected = probabilities ** (1 / temperature)
    expected = expected / expected.sum()
    found = torch.bincount(tokens, minlength=6) / 20_000
    # Four standard errors of a share of one half.
    assert torch.allclose(found, expected, atol=0.0142)
    assert found[1] == found[5] == 0
    assert torch.allclose(logprobs, expected[tokens].log(), atol=1e-5)
