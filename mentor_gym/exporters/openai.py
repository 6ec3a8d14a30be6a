"""OpenAI chat rows, one JSON object a line: `messages` and `tools`, as fine-tuning services take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mentor_gym.protocol import to_json


def write(chats: Mapping[str, Sequence[dict[str, Any]]], out: Path) -> list[Path]:
    """Write a `.jsonl` file, or a folder with one per split.

    Raises:
        ValueError: A file is to be written, but there are several splits.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     [path.name for path in write({"train": [], "test": []}, Path(home, "out"))]
    ['train.jsonl', 'test.jsonl']
    """
    if out.suffix == ".jsonl":
        if len(chats) > 1:
            raise ValueError(f"{out} is one file, for one split; choose one of {', '.join(chats)}, or a folder")
        paths = dict.fromkeys(chats, out)
    else:
        paths = {split: out / f"{split}.jsonl" for split in chats}
    for split, rows in chats.items():
        paths[split].parent.mkdir(parents=True, exist_ok=True)
        paths[split].write_text("".join(f"{to_json(row)}\n" for row in rows), encoding="utf-8")
    return list(paths.values())
