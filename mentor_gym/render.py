"""Conversations as terminal text; used by `env.render()`, `mentor-gym rollout` and `mentor-gym play`."""

from __future__ import annotations

from typing import Any

from mentor_gym.types import Transcript, Turn

_STYLES = {"system": "2", "user": "1", "turn": "1;34", "call": "36", "ok": "32", "error": "31", "end": "1;35"}


def _paint(style: str, text: str, colour: bool) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour else text


def render_opening(messages: list[dict[str, Any]], colour: bool = False) -> str:
    """Show the opening messages of an episode.

    >>> render_opening([{"role": "user", "content": "What is 6 times 7?"}])
    '[user] What is 6 times 7?'
    """
    return "\n".join(
        _paint(
            "system" if message["role"] == "system" else "user",
            f"[{message['role']}] {message['content']}",
            colour,
        )
        for message in messages
    )


def render_turn(number: int, turn: Turn, colour: bool = False) -> str:
    """Show one assistant turn and the results of its calls.

    >>> from mentor_gym.types import Action, ToolResult
    >>> print(render_turn(1, Turn("<tool_call>…</tool_call>", Action(), (ToolResult(True, "42"),))))
    [turn 1] <tool_call>…</tool_call>
      -> 42
    """
    lines = [_paint("turn", f"[turn {number}] ", colour) + _paint("call", turn.text, colour)]
    for result in turn.results:
        lines.append(_paint("ok" if result.ok else "error", f"  -> {result.output}", colour))
    if not turn.results and turn.observation:
        lines.append(_paint("error", f"  -> {turn.observation}", colour))
    return "\n".join(lines)


def render_terms(transcript: Transcript, terms: dict[str, float] | None, colour: bool = False) -> str:
    """Show how an episode ended and, when a reward wrapper paid, its terms.

    >>> from mentor_gym.types import StopReason, Task
    >>> task = Task("1", "math", "train", "6 times 7?", [], "42", {"kind": "number"}, None, [])
    >>> end = Transcript(task, stop_reason=StopReason.ANSWER, answer="42", is_success=True)
    >>> render_terms(end, {"outcome": 0.7, "validity": 0.1})
    '[end] answer, correct; reward 0.80 = outcome +0.70 validity +0.10'
    """
    verdict = "correct" if transcript.is_success else "not correct"
    line = f"[end] {transcript.stop_reason}, {verdict}"
    if terms is not None:
        parts = " ".join(f"{name} {value:+.2f}" for name, value in terms.items())
        line += f"; reward {sum(terms.values()):.2f} = {parts}"
    return _paint("end", line, colour)
