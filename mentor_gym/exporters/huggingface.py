"""A Hugging Face `datasets` folder: `messages` and `tools`, as TRL's SFTTrainer takes them.

`datasets.load_dataset(folder)` reads it, with a split per split of the suite. The columns have the types that TRL
names for tool calling: lists of messages with `role`, `content`, `tool_calls` and `tool_call_id`, where each tool
call, and each tool, is arbitrary JSON (`Json`, of datasets 4.7 and later). `arguments` are objects, not texts, as
chat templates expect them.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mentor_gym.protocol import to_json

_TEXTS = ("role", "content", "tool_call_id")
_FEATURES = {
    "messages": {
        "_type": "List",
        "feature": {
            "tool_calls": {"_type": "List", "feature": {"_type": "Json"}},
            **{name: {"dtype": "string", "_type": "Value"} for name in _TEXTS},
        },
    },
    "tools": {"_type": "List", "feature": {"_type": "Json"}},
}
_CARD = """---
{header}---

# Tool-use conversations

{rows} rows of `messages` and `tools`, exported by mentor_gym. The last message of a row holds the answer; the
`arguments` of tool calls are objects.

```python
from datasets import load_dataset

rows = load_dataset("path/of/this/folder", split="{split}")
```

`trl.SFTTrainer` takes these columns as they are. Reading them needs datasets 4.7 or later.
"""


def write(chats: Mapping[str, Sequence[dict[str, Any]]], out: Path) -> list[Path]:
    """Write the folder: a parquet file per split in `data`, and a dataset card.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "parquet files need pyarrow: pip install 'mentor-gym[data]'", name="pyarrow"
        ) from error
    # What datasets reads the types of columns from.
    note = json.dumps({"info": {"features": _FEATURES}})
    (out / "data").mkdir(parents=True, exist_ok=True)
    files = []
    for split, rows in chats.items():
        messages = [message for row in rows for message in row["messages"]]
        offsets = list(itertools.accumulate((len(row["messages"]) for row in rows), initial=0))
        arrays = [_json_lists(pyarrow, [_calls(message) for message in messages])]
        arrays += [
            pyarrow.array([message.get(field) for message in messages], pyarrow.string()) for field in _TEXTS
        ]
        structs = pyarrow.StructArray.from_arrays(arrays, ["tool_calls", *_TEXTS])
        columns = {
            "messages": pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), structs),
            "tools": _json_lists(pyarrow, [[to_json(tool) for tool in row["tools"]] for row in rows]),
        }
        path = out / "data" / f"{split}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.table(columns).replace_schema_metadata({"huggingface": note}), path)
        files.append(path)
    card = out / "README.md"
    card.write_text(_card(chats), encoding="utf-8")
    return [*files, card]


def _json_lists(pyarrow: Any, lists: Sequence[Sequence[str] | None]) -> Any:
    """Return an array of the type of `List(Json())`, to which arrow converts no Python values."""
    texts = pyarrow.array(lists, pyarrow.list_(pyarrow.string()))
    values = pyarrow.ExtensionArray.from_storage(pyarrow.json_(), texts.values)
    return pyarrow.ListArray.from_arrays(texts.offsets, values, mask=texts.is_null())


def _calls(message: dict[str, Any]) -> list[str] | None:
    return [_call(call) for call in message.get("tool_calls") or []] or None


def _call(call: dict[str, Any]) -> str:
    call = copy.deepcopy(call)
    arguments = call["function"]["arguments"]
    if isinstance(arguments, str):
        call["function"]["arguments"] = msgspec.json.decode(arguments)
    return to_json(call)


def _card(chats: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    # A split of datasets has no - in its name.
    listed = [
        {"split": split.replace("-", "_"), "path": f"data/{split}-00000-of-00001.parquet"} for split in chats
    ]
    header = {
        "configs": [{"config_name": "default", "data_files": listed}],
        "tags": ["tool-use", "function-calling"],
    }
    rows = sum(map(len, chats.values()))
    text = yaml.safe_dump(header, sort_keys=False)
    return _CARD.format(header=text, rows=rows, split=listed[0]["split"])
