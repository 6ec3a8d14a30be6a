"""The language-model agent: token-exact conversations, batched sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from agents.base import Completion, Observation
from agents.chat import ChatFormat
from agents.conversation import Conversation
from agents.models import load_model
from agents.sampler import Sampler

STOP_TEXTS = ("</tool_call>", "</answer>")


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
        seed: Seeds the agent's own generator; samples depend on it and on the batches asked for.
        dtype: Data type of a model that is loaded here.

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
        self.generator = torch.Generator(device=next(self.model.parameters()).device)
        self.generator.manual_seed(seed)
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
            generator=self.generator,
        )
        self.sampled_tokens = 0
        self._conversations: dict[int, Conversation] = {}

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
        prompts = []
        for observation in observations:
            if observation.turn == 0 or observation.episode not in self._conversations:
                if observation.turn and not any(m["role"] == "assistant" for m in observation.messages):
                    raise ValueError(
                        f"episode {observation.episode} is at turn {observation.turn}, but this agent has not "
                        "seen its earlier turns"
                    )
                self.forget(observation.episode)
                self._conversations[observation.episode] = Conversation()
                prompt = self.chat.opening(observation.messages or [{"role": "user", "content": observation.text}])
            else:
                last = self._conversations[observation.episode].token_ids[-1]
                prompt = self.chat.later(observation.text, last)
            self._conversations[observation.episode].extend_observation(prompt)
            prompts.append(prompt)
        conversations = [self._conversations[observation.episode] for observation in observations]
        samples = self.sampler.generate(
            [observation.episode for observation in observations],
            [conversation.token_ids for conversation in conversations],
        )
        completions = []
        for prompt, conversation, sample in zip(prompts, conversations, samples):
            conversation.extend_action(sample.token_ids, sample.logprobs)
            self.sampled_tokens += len(sample.token_ids)
            text = self._text(sample.token_ids)
            completions.append(Completion(text, sample.token_ids, sample.logprobs, prompt, sample.cut_off))
        return completions

    def forget(self, episode: int) -> None:
        """Drop what is kept for an episode that is over."""
        self._conversations.pop(episode, None)
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
