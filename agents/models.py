"""The language-model agent: chat template, token-exact conversations, batched sampling.

A turn's tokens are appended and never rendered again: the first turn is the chat template's rendering of the
opening messages, a later turn is what the template writes *after* an assistant text, and the assistant's own
tokens stay the sampled ones. That is only right for templates that keep earlier turns as they are, so
`ChatFormat` proves it before the first token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from agents.base import Completion, Observation
from agents.conversation import Conversation
from agents.sampler import Sampler
from agents.trajectory import Batch

TINY = Path(__file__).parent / "weights" / "tiny"
STOP_TEXTS = ("</tool_call>", "</answer>")

# For tokenizers without a chat template.
PLAIN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# Tags of the wire format are the environment's to write, even where a tokenizer has them as special tokens; the
# environment neutralises them in what tools and models wrote.
_PROTOCOL = re.compile(r"</?(?:tool_call|tool_response|tools|answer|think)>")
# Marks where a text is cut before it is encoded; a noncharacter, so no text needs it.
_CUT = "\uffff"
_PLACEHOLDER = "PLACEHOLDER"


class ChatFormat:
    """A tokenizer's chat template as ids, turn by turn.

    Text of messages never becomes a special token: a special token's name inside a message is cut in two and
    encoded as text. A template that refuses a system message gets its text at the head of the user message.

    Args:
        tokenizer: A Hugging Face tokenizer. Without a chat template it is given `PLAIN_TEMPLATE`, a ChatML-like
            plain format.
        name: What to call the model in error messages.

    Raises:
        ValueError: The template does not keep earlier turns as they are, so that tokens of a conversation could
            not simply be appended.
    """

    def __init__(self, tokenizer: Any, name: str = "the model") -> None:
        self.tokenizer = tokenizer
        self.template = None if tokenizer.chat_template else PLAIN_TEMPLATE
        special = {str(token) for token in tokenizer.all_special_tokens}
        special |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = sorted(token for token in special if len(token) > 1 and not _PROTOCOL.fullmatch(token))
        # A look-ahead finds occurrences that overlap as well.
        self._special = re.compile(f"(?=({'|'.join(map(re.escape, names))}))") if names else None
        self._prove(name)
        opening = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _PLACEHOLDER}]
        whole = self._render([*opening, {"role": "user", "content": _PLACEHOLDER[::-1]}])
        rest = whole[whole.index(_PLACEHOLDER) + len(_PLACEHOLDER) :]
        self._before, self._after = rest.split(_PLACEHOLDER[::-1])
        close = self._encode(self._before)
        # The first token of what follows an assistant text, when it is special, is the template's end of turn.
        self.end_of_turn: int | None = close[0] if close and close[0] in tokenizer.all_special_ids else None

    def opening(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """Encode the first messages of an episode, up to where the assistant writes."""
        return self._encode(self._render([self._guard(message) for message in _as_chat(messages)]))

    def later(self, text: str, last_id: int | None = None) -> list[int]:
        """Encode what stands between two assistant turns: end of turn, the observation, start of turn.

        Args:
            text: The observation.
            last_id: The last token of the assistant's turn; when that is the end of turn, it is not repeated.
        """
        ids = self._encode(self._before + self._guard({"content": text})["content"] + self._after)
        return ids[1:] if ids and ids[0] == last_id else ids

    def assistant(self, text: str) -> list[int]:
        """Encode an assistant turn that nobody sampled, for supervised fine-tuning."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _guard(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message["content"].replace(_CUT, "\ufffd")
        if self._special is not None and message.get("role") != "assistant":
            for match in reversed(list(self._special.finditer(content))):
                content = content[: match.start() + 1] + _CUT + content[match.start() + 1 :]
        return {**message, "content": content}

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in text.split(_CUT):
            ids += self.tokenizer.encode(part, add_special_tokens=False)
        return ids

    def _render(self, messages: list[dict[str, Any]]) -> str:
        def render(messages: list[dict[str, Any]]) -> str:
            rendered: str = self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
            )
            return rendered

        if messages[0]["role"] != "system":
            return render(messages)
        try:
            rendered = render(messages)
            if messages[0]["content"].strip()[:200].split(_CUT)[0] in rendered:
                return rendered
        except Exception:
            # Templates refuse with whatever jinja raises; if the system role is not the reason, it raises again.
            pass
        system, first, *rest = messages
        return render([{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest])

    def _prove(self, name: str) -> None:
        """Render a dummy conversation turn by turn; every rendering must be continued by the next."""
        for text in ("first", "<think>\nfirst thought\n</think>\n\nfirst"):
            messages: list[dict[str, Any]] = [{"role": "user", "content": "question"}]
            for _ in range(3):
                before = self._render(messages) + text
                messages.append({"role": "assistant", "content": text})
                messages.append({"role": "user", "content": "<tool_response>result</tool_response>"})
                if not self._render(messages).startswith(before):
                    what = "thinking" if "<think>" in text and text not in self._render(messages) else "turns"
                    raise ValueError(
                        f"the chat template of {name} does not keep earlier {what} as they were written: tokens "
                        "cannot be appended to such a conversation. Put a template that keeps every turn into the "
                        "model folder (chat_template.jinja), or pass (model, tokenizer) with "
                        "tokenizer.chat_template = None to use the plain one."
                    )


def _as_chat(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write tool messages as one user message per turn, in the wire format."""
    chat: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content") or ""
        if message["role"] == "tool":
            content = f"<tool_response>{content}</tool_response>"
            if chat and chat[-1]["role"] == "tool":
                chat[-1]["content"] += "\n" + content
                continue
        chat.append({"role": message["role"], "content": content})
    for message in chat:
        message["role"] = "user" if message["role"] == "tool" else message["role"]
    return chat


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


def action_logprobs(model: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Compute the log-probabilities of what the policy wrote, with gradients when they are enabled.

    The prompt of each group is read once: its keys and values are repeated for the group's rows, and gradients
    flow back through them. The output layer runs on the positions of the mask only.

    Args:
        model: A Hugging Face causal language model.
        batch: The trajectories.
        temperature: Of the softmax, as when sampling; 0 counts as 1.

    Returns:
        Log-probabilities [B, T] in fp32, zero where the action mask is False.
    """
    arguments: dict[str, Any] = {"attention_mask": batch.attention_mask_BT, "use_cache": False}
    if batch.prefix_ids_GP.shape[1]:
        cache = DynamicCache()
        prefix_GP = batch.prefix_ids_GP
        positions = torch.arange(prefix_GP.shape[1], device=prefix_GP.device)
        # Padding is on the right, so causal attention alone keeps it out of sight of real tokens.
        model.base_model(input_ids=prefix_GP, past_key_values=cache, use_cache=True)
        for layer in cast(list[Any], cache.layers):
            layer.keys, layer.values = layer.keys[batch.group_B], layer.values[batch.group_B]
        width = batch.input_ids_BT.shape[1]
        seen_BP = positions < batch.prefix_lengths_G[batch.group_B][:, None]
        causal_TT = torch.ones(width, width, dtype=torch.bool, device=prefix_GP.device).tril()
        rows = len(batch.input_ids_BT)
        allowed = torch.cat(
            [seen_BP[:, None].expand(-1, width, -1), causal_TT[None].expand(rows, -1, -1)], dim=-1
        )[:, None]
        mask = torch.zeros(allowed.shape, dtype=model.dtype, device=prefix_GP.device)
        mask.masked_fill_(~allowed, torch.finfo(model.dtype).min)
        arguments = {"attention_mask": mask, "past_key_values": cache, "use_cache": True}
    wanted = batch.action_mask_BT

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][wanted],)

    # A hook, because whatever a model does to its logits after the output layer must still happen.
    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        logits = model(input_ids=batch.input_ids_BT, position_ids=batch.position_ids_BT, **arguments).logits
    finally:
        handle.remove()
    logits = logits.float()
    if temperature not in (0, 1):
        logits = logits / temperature
    logprobs = torch.log_softmax(logits, dim=-1).gather(1, batch.target_ids_BT[wanted][:, None])[:, 0]
    return torch.zeros(wanted.shape, device=logprobs.device).masked_scatter(wanted, logprobs)


def load_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load a model and its tokenizer by the name `"tiny"`, a folder or a Hugging Face id.

    Raises:
        ValueError: Nothing there, or not a causal language model; says what was looked for.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = str(TINY) if name == "tiny" else name
    # A Hugging Face id has one slash at most; what can only be a folder is not looked for there.
    if not Path(path).exists() and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise ValueError(f"model {name!r}: no such folder")
    if Path(path).exists() and not (Path(path) / "config.json").is_file():
        raise ValueError(f"model {name!r}: {path} is no model folder (it has no config.json)")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"model {name!r} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    return model.to(device).eval(), tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars that Hugging Face shows for loading and saving, where they would break ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def tiny_agent(**options: Any) -> LLMAgent:
    """Build the agent of the embedded model; options as for `LLMAgent`."""
    return LLMAgent("tiny", **options)


# Tells `agents.base.load_agent` to call it instead of taking it for an agent function from text to text.
tiny_agent.is_factory = True  # type: ignore[attr-defined]
