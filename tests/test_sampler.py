"""Sampling is exact: what is stored is what a fresh forward pass over the stored tokens gives."""

from __future__ import annotations

import functools
import random

import pytest
import torch
from small_models import make_model, make_tokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

import agents.decoder
import agents.keyvalues
from agents.base import Observation
from agents.conversation import Conversation
from agents.decoder import FusedDecoder, ModelDecoder, make_decoder
from agents.keyvalues import Reads
from agents.llm import LLMAgent
from agents.packed import action_logprobs
from agents.rollout import Rollout
from agents.sampler import Sampler
from agents.trajectory import Batch


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


BASE = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "bos_token_id": None,
    "eos_token_id": None, "pad_token_id": None, "max_position_embeddings": 512,
}  # fmt: skip
# Name, configuration, what runs it.
ARCHITECTURES = {
    "llama": (LlamaConfig(**BASE), FusedDecoder),
    "llama, biases, tied": (
        LlamaConfig(**BASE, attention_bias=True, mlp_bias=True, tie_word_embeddings=True), FusedDecoder
    ),
    "llama 3 positions": (
        LlamaConfig(**BASE, head_dim=16, rope_parameters={
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }), FusedDecoder
    ),
    "mistral": (MistralConfig(**BASE, sliding_window=None), FusedDecoder),
    "qwen2": (Qwen2Config(**BASE), FusedDecoder),
    "qwen3": (Qwen3Config(**BASE, head_dim=16), FusedDecoder),
    "gpt2": (
        GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.2,
                   bos_token_id=None, eos_token_id=None), ModelDecoder
    ),
    "gemma": (GemmaConfig(**{**BASE, "pad_token_id": 0}, head_dim=16), ModelDecoder),
    # Logits are squashed after the output layer; layers that see a window only.
    "gemma 2": (Gemma2Config(**{**BASE, "pad_token_id": 0}, head_dim=16, final_logit_softcapping=2.0), None),
    "mistral, window": (MistralConfig(**BASE, sliding_window=16), None),
}  # fmt: skip


def make_architecture(name: str):
    torch.manual_seed(3)
    config, decoder = ARCHITECTURES[name]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    # Norms and biases start as ones and zeros, with which much would go unnoticed.
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return model, decoder


@functools.cache
def generate_greedily(name: str) -> tuple[list[list[int]], list[list[int]]]:
    """Return prompts, and what `generate` adds to them; once for all the ways to hold the weights."""
    model, decoder = make_architecture(name)
    chance = random.Random(0)
    count = 100 if decoder is not None else 4
    prompts = [[chance.randrange(300) for _ in range(chance.randrange(1, 40))] for _ in range(count)]
    written = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, pad_token_id=0
        )
        written.append(found[0, len(prompt) :].tolist())
    return prompts, written


@pytest.mark.parametrize("large", [(10**9, 10**9), (0, 10**9), (0, 0)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_equals_generate(name, large, monkeypatch):
    """Weights in one piece, and in blocks that they do not divide into."""
    monkeypatch.setattr(agents.decoder, "_LARGE_WEIGHT", large[0])
    monkeypatch.setattr(agents.decoder, "_LARGE_HEAD", large[1])
    monkeypatch.setattr(agents.decoder, "_BLOCK_COLUMNS", 7)
    model, decoder = make_architecture(name)
    agent = LLMAgent((model, make_tokenizer()), temperature=0.0, max_new_tokens=12, max_rows=40)
    assert type(agent.sampler.decoder) is (decoder or type(None))
    agent.sampler.stopped = lambda ids: False
    agent.sampler.stop_ids = frozenset()
    prompts, expected = generate_greedily(name)
    assert [got.token_ids for got in sample(agent.sampler, prompts)] == expected
    distinct = set(map(tuple, expected))
    assert len(distinct) > len(prompts) / 2, "a model that always says the same would pass whatever it read"


def sample(sampler: Sampler, prompts: list[list[int]], points: list[list[float]] | None = None):
    """One turn of each conversation; its number is its episode."""
    points = points or [[0.5] * sampler.max_new_tokens] * len(prompts)
    for episode, (prompt, row) in enumerate(zip(prompts, points)):
        sampler.submit(episode, prompt, row)
    found = {}
    while len(found) < len(prompts):
        found.update(sampler.collect())
    return [found[episode] for episode in range(len(prompts))]


def test_reading_what_rows_have_in_common_once_changes_nothing(monkeypatch):
    """Prompts of several lengths, some of them shared, rows that end early, and later turns."""
    counted = []
    divided = Reads._attend_divided
    monkeypatch.setattr(Reads, "_attend_divided", lambda self, *rest: counted.append(1) or divided(self, *rest))

    def play_some(share_bytes: float) -> list[list[int]]:
        monkeypatch.setattr(agents.keyvalues, "_SHARE_BYTES", share_bytes)
        agent = LLMAgent("tiny", 1.3, max_new_tokens=30, seed=2, max_rows=20)
        with Rollout({"suite": "math", "split": "train", "prompt": "compact", "max_turns": 4}) as rollout:
            tasks = [task for task in rollout.task_ids[:6] for _ in range(5)]
            return [run.token_ids for run in rollout.run(agent, [*tasks, *rollout.task_ids[6:9]], seed=5)]

    apart = play_some(float("inf"))
    assert not counted
    assert play_some(0) == apart
    assert len(counted) > 20


def test_a_window_that_no_conversation_outgrows_does_not_matter():
    model, _ = make_architecture("mistral, window")
    agent = LLMAgent((model, make_tokenizer()), temperature=0.0, max_new_tokens=12, max_context=16)
    assert type(agent.sampler.decoder) is FusedDecoder
    agent.sampler.stop_ids = frozenset()
    agent.sampler.stopped = lambda ids: False
    (found,) = sample(agent.sampler, [[5, 6, 7, 8]])
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, pad_token_id=0
    )
    assert found.token_ids == expected[0, 4:].tolist()
    assert found.cut_off


def test_a_decoder_that_is_wrong_is_not_used(monkeypatch):
    model, _ = make_architecture("llama")
    refresh = FusedDecoder.refresh

    def forgets_a_norm(self):
        refresh(self)
        self._head = [block / self.model.model.norm.weight[:, None] for block in self._head]

    monkeypatch.setattr(FusedDecoder, "refresh", forgets_a_norm)
    assert type(make_decoder(model, 512)) is ModelDecoder
    monkeypatch.setattr(ModelDecoder, "logits", lambda self, reads, cache: torch.zeros(reads.count, 300))
    assert make_decoder(model, 512) is None


@pytest.mark.parametrize("turns", [1, 3])
def test_an_episode_has_the_same_tokens_alone_and_among_others(turns):
    """With the shipped model, whose cache rows, prompts and turns differ in length as they do in training."""

    def play_tasks(agent: LLMAgent, count: int, size: int, max_live: int = 96):
        settings = {"suite": "math", "split": "train", "prompt": "compact", "max_turns": turns}
        with Rollout(settings, max_live) as rollout:
            ids = rollout.task_ids[:count]
            return rollout.run(agent, [task for task in ids for _ in range(size)], seed=5)

    together = play_tasks(LLMAgent("tiny", 1.5, max_new_tokens=40, seed=1), 4, 8)
    few = play_tasks(LLMAgent("tiny", 1.5, max_new_tokens=40, seed=1, max_rows=3), 4, 8)
    assert [run.token_ids for run in together] == [run.token_ids for run in few]
    alone = play_tasks(LLMAgent("tiny", 1.5, max_new_tokens=40, seed=1), 4, 8, max_live=1)
    assert [run.token_ids for run in together] == [run.token_ids for run in alone]
    assert len({tuple(run.token_ids) for run in together}) > 16
    other = play_tasks(LLMAgent("tiny", 1.5, max_new_tokens=40, seed=2), 4, 8)
    assert [run.token_ids for run in together] != [run.token_ids for run in other]


class Counting:
    """Counts the tokens that a decoder reads."""

    def __init__(self, decoder) -> None:
        self.decoder, self.layers, self.tokens, self.widest = decoder, decoder.layers, 0, 0

    def refresh(self) -> None:
        self.decoder.refresh()

    def logits(self, reads, cache):
        self.tokens += len(reads.token_ids_N)
        self.widest = max(self.widest, reads.count)
        return self.decoder.logits(reads, cache)


def counting_agent(pair, **options) -> tuple[LLMAgent, Counting]:
    agent = LLMAgent(pair, **options)
    agent.sampler.stop_ids = frozenset()
    agent.sampler.stopped = lambda ids: False
    agent.sampler.decoder = counting = Counting(agent.sampler.decoder)
    return agent, counting


def test_nothing_is_read_twice(pair):
    """A prompt that many begin with is read once, and a later turn reads only what is new."""
    agent, counting = counting_agent(pair, max_new_tokens=6)
    first = agent.act([observe(i) for i in range(16)])
    prompt = len(first[0].prompt_ids)
    # Five tokens of each turn are read to get the sixth; the first row runs for one more pass than the others,
    # which enter after it.
    assert counting.tokens <= (prompt - 1) + 16 * 6 + 16
    counting.tokens = 0
    second = agent.act([observe(i, "result", turn=1) for i in range(16)])
    # The last token of the first turn, the observation, and five sampled ones.
    assert counting.tokens == 16 * (1 + len(second[0].prompt_ids) + 5)


def test_waiting_episodes_enter_when_others_end(pair):
    agent, counting = counting_agent(pair, max_new_tokens=8, max_rows=4)
    limits = {i: 2 + i for i in range(7)}
    agent.sampler.stopped = lambda ids: False
    agent.sampler.stop_ids = frozenset(range(0, 300, 5))
    done = agent.act([observe(i, f"question {i}") for i in limits])
    assert counting.widest == 4
    assert len({len(completion.token_ids) for completion in done}) > 1
    # More episodes than rows, over several turns: rows are taken away from those who wait, and nothing is lost.
    later = agent.act([observe(i, "result", turn=1) for i in limits])
    for i, (a, b) in enumerate(zip(done, later)):
        ids = a.prompt_ids + a.token_ids + b.prompt_ids + b.token_ids
        expected = fresh_logprobs(pair[0], ids, 1.0)[-len(b.token_ids) :]
        assert torch.allclose(torch.tensor(b.logprobs), expected, atol=1e-4), i


def test_weights_that_change_in_the_middle_of_a_turn(pair):
    model = make_model()
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=12)
    agent.sampler.stop_ids = frozenset(range(0, 300, 6))
    for i in range(8):
        agent.submit(observe(i, f"question {i}"))
    found = dict(agent.collect())
    before = {row.turn.episode: len(row.turn.sample.token_ids) for row in agent.sampler._rows if row.turn}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    later = {}
    while len(found) + len(later) < 8:
        later.update(agent.collect())
    assert any(before[i] and len(later[i].token_ids) > before[i] for i in later)
    for i, completion in later.items():
        start = before[i]
        expected = fresh_logprobs(model, completion.prompt_ids + completion.token_ids, 1.0)
        expected = expected[len(completion.prompt_ids) - 1 + start :]
        assert torch.allclose(torch.tensor(completion.logprobs[start:]), expected, atol=1e-4)


def test_refresh_takes_over_weights_that_were_changed_unnoticed():
    model = make_model()
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=6)
    agent.act([observe(0)])
    for parameter in model.parameters():
        parameter.data = parameter.data * 1.1
    agent.sampler.refresh()
    (completion,) = agent.act([observe(1, "another question")])
    expected = fresh_logprobs(model, completion.prompt_ids + completion.token_ids, 1.0)
    expected = expected[len(completion.prompt_ids) - 1 :]
    assert torch.allclose(torch.tensor(completion.logprobs), expected, atol=1e-4)


def test_forgotten_in_the_middle_of_a_turn(pair):
    agent = LLMAgent(pair, max_new_tokens=12)
    agent.sampler.stop_ids = frozenset()
    for i in range(3):
        agent.submit(observe(i, f"question {i}"))
    agent.forget(1)
    found = {}
    while len(found) < 2:
        found.update(agent.collect())
    assert sorted(found) == [0, 2]
    assert agent.collect() == []


def observe(episode: int, text: str = "question", turn: int = 0) -> Observation:
    return Observation(text, [{"role": "user", "content": text}] if not turn else [], episode, turn)


def force(agent: LLMAgent, text: str) -> None:
    """Let the agent write a fixed text, then token 65 for ever."""
    ids = agent.tokenizer.encode(text, add_special_tokens=False)
    counts: dict[int, int] = {}

    def draw(logits: torch.Tensor, points: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
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


def test_a_conversation_fills_up_over_its_turns(pair):
    agent = LLMAgent(pair, max_new_tokens=8, max_context=60)
    agent.sampler.stop_ids = frozenset()
    agent.sampler.stopped = lambda ids: False
    length = 0
    for turn in range(4):
        (completion,) = agent.act([observe(0, "hi", turn)])
        before = length + len(completion.prompt_ids)
        assert len(completion.token_ids) == max(0, min(8, 60 - before))
        length = before + len(completion.token_ids)
    assert length >= 60
    assert completion.cut_off
    assert completion.token_ids == []


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
    agent.sampler._rows, agent.sampler._row_of = [], {}
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


def test_models_that_no_decoder_can_run_are_exact_too():
    model, _ = make_architecture("mistral, window")
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=12)
    assert agent.sampler.decoder is None
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


def test_every_token_is_drawn_with_a_number_of_its_own(pair):
    agent = LLMAgent(pair, temperature=0.8, max_new_tokens=10)
    agent.sampler.stop_ids = frozenset()
    agent.sampler.stopped = lambda ids: False
    chance = random.Random(4)
    prompts = [[chance.randrange(300) for _ in range(5 + i)] for i in range(3)]
    points = [[chance.random() for _ in range(10)] for _ in prompts]
    for prompt, row, found in zip(prompts, points, sample(agent.sampler, prompts, points)):
        ids = list(prompt)
        for point, token in zip(row, found.token_ids):
            with torch.no_grad():
                logits = pair[0](torch.tensor([ids])).logits[0, -1]
            summed = torch.softmax(logits / 0.8, -1).double().cumsum(-1)
            assert token == int((summed <= point).sum())
            ids.append(token)


def test_a_large_vocabulary_is_searched_in_two_steps(pair):
    agent = LLMAgent(pair)
    torch.manual_seed(0)
    logits = torch.randn(50, 128 * 40) * 3
    chance = random.Random(1)
    points = [chance.random() for _ in range(48)] + [0.0, 1 - 2**-53]
    summed = torch.softmax(logits, -1).double().cumsum(-1)
    summed /= summed[:, -1:].clone()
    expected = [int((row <= point).sum()) for row, point in zip(summed, points)]
    tokens, logprobs = agent.sampler._draw(logits, points)
    assert tokens.tolist() == [min(token, 128 * 40 - 1) for token in expected]
    assert torch.allclose(logprobs, torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0], atol=1e-5)


def test_a_token_of_probability_zero_is_never_drawn(pair):
    agent = LLMAgent(pair)
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]] * 2)
    tokens, _ = agent.sampler._draw(logits, [0.0, 1 - 2**-53])
    assert tokens.tolist() == [1, 3]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_in_proportion(pair, temperature):
    agent = LLMAgent(pair, temperature=temperature)
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05, 0.0])
    logits = probabilities.log()[None].expand(20_000, -1)
    chance = random.Random(0)
    tokens, logprobs = agent.sampler._draw(logits, [chance.random() for _ in range(20_000)])
    expected = probabilities ** (1 / temperature)
    expected = expected / expected.sum()
    found = torch.bincount(tokens, minlength=6) / 20_000
    # Four standard errors of a share of one half.
    assert torch.allclose(found, expected, atol=0.0142)
    assert found[1] == found[5] == 0
    assert torch.allclose(logprobs, expected[tokens].log(), atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_the_weights_of_an_optimizer_step_are_noticed(fused):
    """A fused step leaves the versions of the parameters as they are."""
    model = make_model()
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=6)
    agent.act([observe(0)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=fused)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    (completion,) = agent.act([observe(1, "another question")])
    expected = fresh_logprobs(model, completion.prompt_ids + completion.token_ids, 1.0)
    expected = expected[len(completion.prompt_ids) - 1 :]
    assert torch.allclose(torch.tensor(completion.logprobs), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["tiny", pytest.param("smollm2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("count", [1, 32])
def test_learners_find_the_log_probabilities_that_were_sampled(name, turns, count):
    """On real models, through the environment: stored ones, packed ones, and those of the model's own forward."""
    agent = LLMAgent(name, max_new_tokens=12, seed=3)
    settings = {"suite": "math", "split": "train", "prompt": "compact", "max_turns": turns}
    size = max(1, count // 4)
    with Rollout(settings) as rollout:
        tasks = [task for task in rollout.task_ids[: count // size] for _ in range(size)]
        played = rollout.run(agent, tasks, seed=1)
    assert count == 1 or len({len(run.token_ids) for run in played}) > 2
    batch = Batch.from_groups([played[i : i + size] for i in range(0, count, size)])
    with torch.no_grad():
        found = action_logprobs(agent.model, batch)
    assert torch.allclose(found, batch.old_logprobs_BT, atol=1e-4)
    for run in played[:: max(1, count // 4)]:
        mask = torch.tensor(run.action_mask[1:])
        expected = fresh_logprobs(agent.model, run.token_ids, 1.0)[mask]
        assert torch.allclose(torch.tensor(run.logprobs[1:])[mask], expected, atol=1e-4)
