"""What the suites from the Berkeley function-calling leaderboard (BFCL) share: rows made from the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mentor_gym.protocol import to_json
from mentor_gym.suites.base import Suite
from mentor_gym.tools.base import ToolBox
from mentor_gym.types import Task

Step = tuple[str, dict[str, Any], str]


class EvaluationSuite(Suite):
    """A suite of tasks that others measure models with: made from an installed package, and not for training.

    Args:
        name: Short name.
        splits: Names of the splits.
        make_box: Builds the tool box.
        make_rows: Makes the rows of a split.
        description: One line for listings.

    >>> suite = EvaluationSuite("mine", ("test",), lambda: ToolBox([]), lambda split: [])
    >>> suite.evaluation_only, len(suite.tasks("test"))
    (True, 0)
    """

    def __init__(
        self,
        name: str,
        splits: tuple[str, ...],
        make_box: Callable[[], ToolBox],
        make_rows: Callable[[str], list[Task]],
        description: str = "",
    ) -> None:
        super().__init__(
            name,
            splits,
            make_box,
            generate=lambda split, seed: make_rows(split),  # there is nothing to draw
            description=description,
            evaluation_only=True,
        )

    def _load(self, split: str) -> list[Task]:
        # Raises ModuleNotFoundError where the package is not installed.
        return self.generate(split, 0)


def teacher_messages(turns: Sequence[Sequence[Step]], answer: str) -> list[dict[str, Any]]:
    """Write executed calls as a teacher trace, with all calls of a turn in one message.

    Args:
        turns: For each turn its calls: tool, arguments, and the text of the result.
        answer: The final answer.

    >>> [message["role"] for message in teacher_messages([[("ls", {}, "[]"), ("pwd", {}, "/")]], "done")]
    ['assistant', 'tool', 'tool', 'assistant']
    """
    messages: list[dict[str, Any]] = []
    for number, steps in enumerate(turns, start=1):
        ids = [f"call_{number}_{position}" for position in range(len(steps))]
        calls = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": to_json(arguments)}}
            for call_id, (name, arguments, _) in zip(ids, steps)
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [
            {"role": "tool", "tool_call_id": call_id, "content": output}
            for call_id, (_, _, output) in zip(ids, steps)
        ]
    messages.append({"role": "assistant", "content": f"<answer>{answer}</answer>"})
    return messages
