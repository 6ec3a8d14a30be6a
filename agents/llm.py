"""The language-model agent: token-exact conversations, batched sampling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from agents.base import Completion, Observation
from agents.chat import ChatFormat
from agents.conversation import Conversation
from agents.models import load_model
from agents.sampler import Sampler

STOP_TEXTS = ("</tool_call>", "</answer>")


@dataclass(slots=True)
class _Episode:
    """An episode while it runs: its tokens, what they are drawn with, and the prompt of the turn asked for."""

    draw: np.random.Generator
    conversation: Conversation = field(default_factory=Conversation)
    prompt: list[int] = field(default_factory=list)


class LLMAgent:
    """A Hugging Face causal language model as an agent.

    A turn ends with `</tool_call>` or `</answer>`, with the end-of-text or end-of-turn token, or, cut off, when
    its tokens run out.

    Args:
        model: `"tiny"` (the embedded model), a model folder, a Hugging Face id, or a `(model, tokenizer)` pair.
        temperature: Sampling temperature; 0 always takes the most likely token.
        max_new_tokens: Tokens of one turn at most.
        max_context: Tokens of a conversation at most; lowered to what the model can take.
        device: Where a model that is loaded here runs.
        seed: With an episode's own seed (`Observation.seed`) it decides what is sampled in that episode, whatever
            else is in the batch. Episodes without a seed are numbered instead.
        dtype: Data type of a model that is loaded here.
        max_rows: Episodes that generate at the same time; others wait for a place.

    Attributes:
        model: The Hugging Face model, in evaluation mode: dropout would make sampled log-probabilities wrong.
        tokenizer: Its tokenizer.
        chat: Its chat template as ids.
        sampled_tokens: Tokens sampled so far, over all episodes.

    Raises:
        ValueError: The model cannot be loaded, or its chat template does not fit (see `ChatFormat`).
    """

    def __init__(
        self,
        model: Any,
        temperature: float = 1.0,
        max_new_tokens: int = 192,
        max_context: int = 4096,
        device: str = "cpu",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        max_rows: int = 128,
    ) -> None:
        if temperature < 0:
            raise ValueError(f"temperature must be 0 or more, got {temperature}")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        if isinstance(model, tuple):
            self.model, self.tokenizer = model
            self.name = str(getattr(self.model, "name_or_path", "") or "the model")
        else:
            self.name = str(model)
            self.model, self.tokenizer = load_model(self.name, device, dtype)
        self.model.eval()
        self.chat = ChatFormat(self.tokenizer, self.name)
        longest = getattr(self.model.config, "max_position_embeddings", None) or max_context
        self.seed = seed
        vocabulary = self.model.get_input_embeddings().num_embeddings
        tokens = self.tokenizer.convert_ids_to_tokens(range(min(vocabulary, len(self.tokenizer))))
        # Every stop text ends in ">", and so does the text, or the name, of the token that completes it.
        may_stop = [">" in (token or "") for token in tokens]
        may_stop += [False] * (vocabulary - len(may_stop))
        self.sampler = Sampler(
            self.model,
            stop_ids=self._stop_ids(),
            may_stop=may_stop,
            stopped=self._stopped,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            max_context=min(max_context, longest),
            max_rows=max_rows,
        )
        self.sampled_tokens = 0
        self._episodes: dict[int, _Episode] = {}
        self._numbers = itertools.count()

    @property
    def temperature(self) -> float:
        """The sampling temperature; may be changed between turns."""
        return self.sampler.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.sampler.temperature = value

    def act(self, observations: Sequence[Observation]) -> list[Completion]:
        """Sample the next turn of every episode, as one batch.

        Raises:
            ValueError: A later turn of an episode whose earlier turns this agent did not write.
        """
        for observation in observations:
            self.submit(observation)
        found: dict[int, Completion] = {}
        while len(found) < len(observations):
            found.update(self.collect())
        return [found[observation.episode] for observation in observations]

    def submit(self, observation: Observation) -> None:
        """Ask for the next turn of an episode; `collect` brings it.

        Raises:
            ValueError: A later turn of an episode whose earlier turns this agent did not write.
        """
        episode = self._episodes.get(observation.episode)
        if observation.turn == 0 or episode is None:
            if observation.turn and not any(m["role"] == "assistant" for m in observation.messages):
                raise ValueError(
                    f"episode {observation.episode} is at turn {observation.turn}, but this agent has not "
                    "seen its earlier turns"
                )
            self.forget(observation.episode)
            seeds = (
                [self.seed, 0, next(self._numbers)]
                if observation.seed is None
                else [self.seed, 1, observation.seed]
            )
            episode = self._episodes[observation.episode] = _Episode(np.random.default_rng(seeds))
            episode.prompt = self.chat.opening(
                observation.messages or [{"role": "user", "content": observation.text}]
            )
        else:
            episode.prompt = self.chat.later(observation.text, episode.conversation.token_ids[-1])
        episode.conversation.extend_observation(episode.prompt)
        points = episode.draw.random(self.sampler.max_new_tokens).tolist()
        self.sampler.submit(observation.episode, episode.conversation.token_ids, points)

    def collect(self) -> list[tuple[int, Completion]]:
        """Return turns that are finished, with their episodes; waits for at least one of those asked for."""
        completions = []
        for number, sample in self.sampler.collect():
            episode = self._episodes[number]
            episode.conversation.extend_action(sample.token_ids, sample.logprobs)
            self.sampled_tokens += len(sample.token_ids)
            text = self._text(sample.token_ids)
            completion = Completion(text, sample.token_ids, sample.logprobs, episode.prompt, sample.cut_off)
            completions.append((number, completion))
        return completions

    def forget(self, episode: int) -> None:
        """Drop what is kept for an episode that is over."""
        self._episodes.pop(episode, None)
        self.sampler.forget(episode)

    def _text(self, ids: list[int]) -> str:
        if ids and ids[-1] in self.sampler.stop_ids:
            ids = ids[:-1]
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _stopped(self, ids: list[int]) -> bool:
        text = self._text(ids)
        return any(stop in text for stop in STOP_TEXTS)

    def _stop_ids(self) -> list[int]:
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        found = configured if isinstance(configured, list) else [configured]
        candidates = [*found, self.tokenizer.eos_token_id, self.chat.end_of_turn]
        return sorted({token for token in candidates if token is not None})


def tiny_agent(**options: Any) -> LLMAgent:
    """Build the agent of the embedded model; options as for `LLMAgent`."""
    return LLMAgent("tiny", **options)


# Tells `agents.base.load_agent` to call it instead of taking it for an agent function from text to text.
tiny_agent.is_factory = True  # type: ignore[attr-defined]
