"""Chat templates as token ids, turn by turn.

A turn's tokens are appended and never rendered again: the first turn is the chat template's rendering of the
opening messages, a later turn is what the template writes *after* an assistant text, and the assistant's own
tokens stay the sampled ones. That is only right for templates that keep earlier turns as they are, so
`ChatFormat` proves it before the first token.

Thinking is the exception. Some templates leave out what the assistant thought in earlier turns (DeepSeek-R1's
always, Qwen3's before the last user message that is no tool response). Tokens that were sampled cannot be taken
back, so a model with such a template sees its earlier thoughts here; everything else must still be kept.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Any

# For tokenizers without a chat template: ChatML, as Hermes models use it; the environment writes tool calls and
# tool responses in their tags already.
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
# Some templates write the date (Llama 3.2, SmolLM3), but a prompt must not change overnight. "Today" is the day
# that Llama 3's templates fall back to. transformers gives templates no functions of the caller's, so the call
# itself is replaced.
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_TODAY = datetime(2024, 7, 26)


class ChatFormat:
    """A tokenizer's chat template as ids, turn by turn.

    Text of messages never becomes a special token: a special token's name inside a message is cut in two and
    encoded as text. A template that refuses a system message gets its text at the head of the user message.

    Args:
        tokenizer: A Hugging Face tokenizer. Without a chat template it is given `PLAIN_TEMPLATE`, which is ChatML.
        name: What to call the model in error messages.

    Attributes:
        end_of_turn: The token id that ends an assistant turn; None where the template ends it with plain text.
        hides_thoughts: Whether the template itself would leave out what was thought in earlier turns of an
            episode. Here such thoughts stay, with a warning.

    Raises:
        ValueError: The template does not keep earlier turns as they are, so that tokens of a conversation could
            not simply be appended.
    """

    def __init__(self, tokenizer: Any, name: str = "the model") -> None:
        self.tokenizer = tokenizer
        template = tokenizer.get_chat_template() if tokenizer.chat_template else PLAIN_TEMPLATE
        self.template = _CLOCK.sub(lambda match: repr(_TODAY.strftime(match[2])), template)
        added = tokenizer.added_tokens_decoder
        special = {str(token) for token in tokenizer.all_special_tokens}
        special |= {token.content for token in added.values() if token.special}
        if not tokenizer.chat_template:
            # Text to a tokenizer that does not know ChatML, but still what ends a turn.
            special |= {"<|im_start|>", "<|im_end|>"}
        names = sorted(token for token in special if len(token) > 1 and not _PROTOCOL.fullmatch(token))
        # A look-ahead finds occurrences that overlap as well.
        self._special = re.compile(f"(?=({'|'.join(map(re.escape, names))}))") if names else None
        start = self._render([{"role": "user", "content": "question"}])
        # The template has begun a thought that the assistant is to end.
        self._thinks = start.rstrip().endswith("<think>")
        question, end = {"role": "user", "content": "question"}, _PLACEHOLDER[::-1]
        answer, result = {"role": "assistant", "content": _PLACEHOLDER}, {"role": "user", "content": end}
        # What the template writes after an assistant text, up to the next observation, and after that.
        _, _, rest = self._render([question, answer, result]).partition(_PLACEHOLDER)
        self._before, _, self._after = rest.partition(end)
        self._prove(name)
        close = self._encode(self._before)
        # When the first token after an assistant text is special, it is the template's end of turn. Not every
        # special token has a role that its tokenizer names (eos and the like).
        ids = {*tokenizer.all_special_ids, *(id for id, token in added.items() if token.special)}
        self.end_of_turn: int | None = close[0] if close and close[0] in ids else None

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
        """Encode an assistant turn that nobody sampled, for supervised fine-tuning.

        Where the template begins every turn with `<think>`, a text that does not end the thought ends it first.
        """
        if self._thinks and "</think>" not in text:
            text = f"\n</think>\n\n{text}"
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
        """Render a dummy conversation turn by turn; every rendering must be the one before, continued."""
        thought = "first thought\n</think>\n\nfirst"
        result = "<tool_response>result</tool_response>"
        self.hides_thoughts = False
        for text in [thought] if self._thinks else ["first", f"<think>\n{thought}"]:
            messages: list[dict[str, Any]] = [{"role": "user", "content": "question"}]
            for _ in range(3):
                appended = self._render(messages) + text + self._before + result + self._after
                messages += [{"role": "assistant", "content": text}, {"role": "user", "content": result}]
                rendered = self._render(messages)
                if rendered == appended:
                    continue
                if "</think>" not in appended or _thoughtless(rendered) != _thoughtless(appended):
                    raise ValueError(
                        f"the chat template of {name} does not keep earlier turns as they were written: tokens "
                        "cannot be appended to such a conversation. Put a template that keeps every turn into the "
                        "model folder (chat_template.jinja), or pass (model, tokenizer) with "
                        "tokenizer.chat_template = None to use the plain one."
                    )
                self.hides_thoughts = True
        if self.hides_thoughts:
            warnings.warn(
                f"the chat template of {name} leaves out what was thought in earlier turns; in an episode these "
                "thoughts stay, because tokens are only appended",
                stacklevel=3,
            )


def _thoughtless(text: str) -> str:
    """Take out thoughts, and the white space that templates put around them or leave behind."""
    return "".join(re.sub("<think>.*?</think>", "", text, flags=re.DOTALL).split())


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
