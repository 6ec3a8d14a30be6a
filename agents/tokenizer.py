"""The tokenizer of the embedded `tiny` model: whole words, two-digit numbers, the wire format's fixed strings.

Every text encodes: what is not in the vocabulary falls back to its UTF-8 bytes. A number is cut into pairs of
digits from the left wherever it stands, so copying one from a question into a call is copying tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mentor_gym.tools.base import Tool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% set role = 'user' if message['role'] == 'tool' else message['role'] %}"
    "{{ '<|' + role + '|>' + (message['content'] or '') + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_FIXED = (
    '<tool_call>{"name": "',
    '", "arguments": {',
    "}}</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<answer>",
    "</answer>",
    "<think>",
    "</think>",
    "error: ",
    "): ",
    '": ',
    ', "',
    '", ',
    ", ",
    '"}}</tool_call>',
    "\\boxed{",
)


def pattern(names: Iterable[str], keys: Iterable[str]) -> str:
    """Return the regular expression that cuts a text into pieces, longest fixed strings first.

    Args:
        names: Tool names, kept whole when they hold an underscore.
        keys: Argument names; `"key": ` is one piece.
    """
    fixed = [*_FIXED, *(f'"{key}": ' for key in keys), *(name for name in names if "_" in name)]
    alternatives = "|".join(re.escape(text) for text in sorted(set(fixed), key=lambda text: (-len(text), text)))
    return rf"{alternatives}|[0-9]{{1,2}}| ?[A-Za-z]+|\n|."


def build_tokenizer(tools: Iterable[Tool], texts: Iterable[str], least: int = 1) -> PreTrainedTokenizerFast:
    """Build the tokenizer.

    Args:
        tools: Their names and argument names become single tokens.
        texts: Their words become single tokens, with and without a space before them.
        least: How often a word must occur.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tools = list(tools)
    names = [tool.name for tool in tools]
    keys = sorted({key for tool in tools for key in tool.parameters["properties"]})
    counts: dict[str, int] = {}
    for text in [*texts, *(tool.description for tool in tools)]:
        for word in re.findall(r"[A-Za-z]+", text):
            counts[word] = counts.get(word, 0) + 1
    words = sorted(word for word, count in counts.items() if count >= least)
    parts = [word for name in (*names, *keys) for word in name.split("_")]
    pieces = [
        *_FIXED,
        *(f'"{key}": ' for key in keys),
        *names,
        *(str(number) for number in range(100)),
        *(f"0{digit}" for digit in range(10)),
        *sorted({*words, *parts}),
        *(f" {word}" for word in sorted({*words, *parts})),
    ]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(letter, len(vocabulary))
    for piece in pieces:
        vocabulary.setdefault(to_bytes.pre_tokenize_str(piece)[0][0], len(vocabulary))

    # Pieces in the vocabulary are taken whole (ignore_merges), anything else falls to single bytes (no merges).
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(pattern(names, keys)), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
