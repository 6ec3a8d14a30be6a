"""Chat templates as token ids, turn by turn.

A turn's tokens are appended and never rendered again: the first turn is the chat template's rendering of the
opening messages, a later turn is what the template writes *after* an assistant text, and the assistant's own
tokens stay the sampled ones. That is only right for templates that keep earlier turns as they are, so
`ChatFormat` proves it before the first token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

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
