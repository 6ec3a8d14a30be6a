"""What an agent is, and how one is found by name; imports nothing heavy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from mentor_gym.names import import_attribute, nearest
from mentor_gym.types import Task

ENTRY_POINT_GROUP = "mentor_gym.agents"


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent sees of one episode at one turn.

    Attributes:
        text: The environment's new text.
        messages: The same as new chat messages (`info["messages"]`).
        episode: Identifies the episode; turns of one episode share it, no two live episodes do.
        turn: Assistant turns so far; 0 at the start of an episode.
        task: The task with its teacher trace, only for agents that declare `privileged = True`; else None.
        seed: Of the episode. An agent that draws at random should draw from it, so that an episode does not depend
            on what else is played; None when nobody seeded the episode.
    """

    text: str
    messages: list[dict[str, Any]]
    episode: int
    turn: int
    task: Task | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What an agent wrote in one turn.

    Attributes:
        text: The whole assistant turn.
        token_ids: The sampled token ids, exactly; None for agents without tokens.
        logprobs: Log-probability of each sampled token under the policy that sampled it.
        prompt_ids: The token ids fed to the model since the previous completion of this episode: the
            observation, with the chat template's glue. None for agents without tokens.
        cut_off: Whether the agent ran out of tokens before the turn was complete.
    """

    text: str
    token_ids: list[int] | None = None
    logprobs: list[float] | None = None
    prompt_ids: list[int] | None = None
    cut_off: bool = False


class Agent(Protocol):
    """Anything that writes assistant turns, for a batch of live episodes at once.

    An agent may declare `privileged = True` to be shown the task with its teacher trace. One that can have turns
    of different lengths under way has `submit(observation)` and `collect() -> list[tuple[int, Completion]]` too:
    a rollout then hands it observations one by one and takes completions, with their episodes, as they come.
    """

    def act(self, observations: Sequence[Observation]) -> list[Completion]:
        """Write the next turn of every episode in the batch, in the same order."""
        ...


@dataclass
class FunctionAgent:
    """A plain function from the conversation so far to the next assistant turn.

    The function gets the text of the whole conversation, observations and its own turns, so that it needs no
    memory of its own.

    >>> agent = FunctionAgent(lambda text: "<answer>42</answer>")
    >>> agent.act([Observation("What is 6 times 7?", [], episode=0, turn=0)])[0].text
    '<answer>42</answer>'
    """

    function: Callable[[str], str]
    _history: dict[int, str] = field(default_factory=dict)

    def act(self, observations: Sequence[Observation]) -> list[Completion]:
        """Call the function once per episode."""
        completions = []
        for observation in observations:
            before = self._history.get(observation.episode, "") if observation.turn else ""
            conversation = f"{before}\n{observation.text}" if before else observation.text
            text = self.function(conversation)
            self._history[observation.episode] = f"{conversation}\n{text}"
            completions.append(Completion(text))
        return completions

    def forget(self, episode: int) -> None:
        """Drop the conversation of an episode that is over."""
        self._history.pop(episode, None)


# Short name -> "module:attribute"; a class is called without arguments.
AGENTS = {
    "teacher": "agents.scripted:TeacherAgent",
    "noisy-teacher": "agents.scripted:NoisyTeacher",
    "random": "agents.scripted:RandomAgent",
    "tiny": "agents.llm:tiny_agent",
    "smollm2": "agents.smollm2:smollm2_agent",
    "sb3-ppo": "agents.sb3:sb3_ppo",
    "sb3-maskable-ppo": "agents.sb3:sb3_maskable_ppo",
}
# What a folder holds whose agent is not a language model: file -> "module:attribute".
_FOLDERS = {"sb3.json": "agents.sb3:SB3Agent"}


class AgentError(ValueError):
    """An agent that cannot be loaded or that does not keep its contract; the message says what was expected."""


def load_agent(name: str, **options: Any) -> Agent:
    """Load an agent by short name, entry point, `module:attribute`, model folder or Hugging Face id.

    Args:
        name: A key of `AGENTS`, a name from the entry-point group `mentor_gym.agents`, `module:attribute`
            (a class or factory, called; an instance; or a plain function from text to text), a folder of
            `SB3Agent`, or anything else for `LLMAgent`.
        **options: Passed to the class or factory, and to `LLMAgent`.

    Raises:
        AgentError: Nothing of that name, or it is no agent.
    """
    found: Any
    points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    if name in AGENTS:
        found = _import(AGENTS[name])
    elif name in points.names:
        found = points[name].load()
    elif ":" in name:
        found = _import(name)
    elif file := next((file for file in _FOLDERS if (Path(name) / file).is_file()), None):
        found = _import(_FOLDERS[file])
        options = {"folder": name, **options}
    elif "/" in name or Path(name).exists():
        found = _import("agents.llm:LLMAgent")
        options = {"model": name, **options}
    else:
        known = [*AGENTS, *points.names]
        raise AgentError(
            f"no agent {name!r}; known: {', '.join(known)}, or module:attribute, a model folder, "
            f"or a Hugging Face id{nearest(name, known)}"
        )
    if isinstance(found, type) or getattr(found, "is_factory", False):
        try:
            inspect.signature(found).bind(**options)
        except TypeError as error:
            raise AgentError(f"agent {name!r}: {error}") from None
        found = found(**options)
    elif options:
        raise AgentError(f"agent {name!r} takes no options, got {', '.join(options)}")
    elif not hasattr(found, "act") and callable(found):
        found = FunctionAgent(found)
    if not hasattr(found, "act"):
        raise AgentError(f"{name!r} is no agent: it has no act(observations)")
    agent: Agent = found
    return agent


def _import(path: str) -> Any:
    return import_attribute(path, "agent", AgentError)
