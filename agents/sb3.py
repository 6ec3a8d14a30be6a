"""Policies of Stable-Baselines3 as agents: what `mentor-gym train --agent sb3-ppo` trained, beside all others.

A policy chooses from a `mentor_gym.wrappers.Menu`; the agent reads an episode's texts into the menu, and writes
the call that was chosen. It sees what every agent sees, so that `agents.evaluate` compares it with language models
on equal terms.

A folder of such an agent is a checkpoint of `agents.sb3_train`: `model.zip` is what Stable-Baselines3 saves, for
`PPO.load` or `MaskablePPO.load`, and `sb3.json` says on which menu the policy acts. Only weights are read from the
archive here, nothing of it is unpickled; `PPO.load` does unpickle, as Stable-Baselines3 is made.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.base import AgentError, Completion, Observation
from mentor_gym.wrappers.menu import Menu, Reading

ALGORITHMS = ("sb3-ppo", "sb3-maskable-ppo")
DESCRIPTION = "sb3.json"
MODEL = "model.zip"


@dataclass(frozen=True, slots=True)
class MenuPolicy:
    """A policy network with the menu that it chooses from.

    Attributes:
        network: Stable-Baselines3's, or sb3-contrib's, actor-critic policy.
        menu: The menu.
        algorithm: One of `ALGORITHMS`; `sb3-maskable-ppo` never chooses what the menu's mask rules out.
    """

    network: Any
    menu: Menu
    algorithm: str

    def logits(self, readings: Sequence[Reading]) -> torch.Tensor:
        """Return the logits of all actions, one row a reading; -inf where the mask rules an action out."""
        features = torch.from_numpy(np.stack([self.menu.features(reading) for reading in readings]))
        with torch.no_grad():
            latent = self.network.extract_features(features, self.network.pi_features_extractor)
            logits: torch.Tensor = self.network.action_net(self.network.mlp_extractor.forward_actor(latent))
        if self.algorithm == "sb3-maskable-ppo":
            masks = torch.from_numpy(np.stack([self.menu.mask(reading) for reading in readings]))
            logits = logits.masked_fill(~masks, -torch.inf)
        return logits

    def parts(self) -> list[int]:
        """Return how many logits each part of an action has, in order."""
        space: Any = self.menu.action_space
        return [int(space.n)] if self.menu.style == "discrete" else space.nvec.tolist()


def policy_class(algorithm: str) -> tuple[Any, Any]:
    """Return the algorithm's class and that of its policy.

    Raises:
        AgentError: It needs sb3-contrib, which is not installed.
    """
    if algorithm == "sb3-ppo":
        from stable_baselines3 import PPO
        from stable_baselines3.common.policies import ActorCriticPolicy

        return PPO, ActorCriticPolicy
    try:
        from sb3_contrib import MaskablePPO
        from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
    except ModuleNotFoundError as error:
        if error.name != "sb3_contrib":
            raise
        raise AgentError(
            f"{algorithm} needs sb3-contrib, which is not installed: pip install 'mentor-gym[sb3]'; "
            "sb3-ppo does without"
        ) from error
    return MaskablePPO, MaskableActorCriticPolicy


def save_description(folder: Path, policy: MenuPolicy, hidden: Sequence[int]) -> None:
    """Write beside a saved model what `load_policy` needs to know of it."""
    content = {"algorithm": policy.algorithm, "hidden": list(hidden), "menu": policy.menu.settings}
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=1) + "\n")


def load_policy(folder: str | Path) -> MenuPolicy:
    """Load a trained policy.

    Raises:
        AgentError: The folder holds none, or a broken one; or sb3-contrib is missing.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / DESCRIPTION).read_text())
        algorithm, hidden, menu = content["algorithm"], content["hidden"], Menu(**content["menu"])
    except OSError as error:
        raise AgentError(f"{folder} holds no Stable-Baselines3 agent: {DESCRIPTION}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError(f"{folder / DESCRIPTION} cannot be read: {error}") from error
    if algorithm not in ALGORITHMS:
        raise AgentError(f"{folder / DESCRIPTION}: unknown algorithm {algorithm!r}")
    from stable_baselines3.common.save_util import load_from_zip_file

    # Making a network draws from the global generator, which is not ours.
    with torch.random.fork_rng(devices=[]):
        network = policy_class(algorithm)[1](
            menu.observation_space, menu.action_space, lambda progress: 0.0, net_arch=hidden
        )
    try:
        _, parameters, _ = load_from_zip_file(folder / MODEL, load_data=False, device="cpu")
        network.load_state_dict(parameters["policy"])
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise AgentError(f"{folder / MODEL} cannot be read: {' '.join(str(error).split())}") from error
    network.set_training_mode(False)
    return MenuPolicy(network, menu, algorithm)


@dataclass(slots=True)
class _Episode:
    """An episode while it is played.

    Attributes:
        reading: What was read of it.
        rng: What its actions are drawn from.
        written: The last turn.
    """

    reading: Reading
    rng: np.random.Generator
    written: str = ""


class SB3Agent:
    """A trained policy of Stable-Baselines3, which chooses its turns from a menu of calls.

    What it draws depends on its own seed and that of the episode, not on what else is in the batch.

    Args:
        folder: `final/` or a checkpoint of a run of `agents.sb3_train`; or a `MenuPolicy`.
        temperature: Of sampling; 0 always takes the best action, 1 samples as in training.
        seed: Seed of the draws.

    Raises:
        AgentError: The folder holds no such agent, or sb3-contrib is missing.
        ValueError: The temperature is negative.
    """

    def __init__(self, folder: str | Path | MenuPolicy, temperature: float = 1.0, seed: int = 0) -> None:
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be a number of at least 0, got {temperature!r}")
        self.policy = folder if isinstance(folder, MenuPolicy) else load_policy(folder)
        self.temperature = temperature
        self.seed = seed
        self._episodes: dict[int, _Episode] = {}

    @property
    def name(self) -> str:
        """The algorithm's name, for tables."""
        return self.policy.algorithm

    def act(self, observations: Sequence[Observation]) -> list[Completion]:
        """Write the next turn of every episode."""
        if not observations:
            return []
        menu = self.policy.menu
        for observation in observations:
            self._read(observation)
        episodes = [self._episodes[observation.episode] for observation in observations]
        rows = self.policy.logits([episode.reading for episode in episodes]).double().numpy()
        ends = np.cumsum(self.policy.parts())[:-1]
        for episode, row in zip(episodes, rows):
            action = [self._choose(part, episode.rng) for part in np.split(row, ends)]
            episode.written = menu.decode(action[0] if menu.style == "discrete" else action, episode.reading)
        return [Completion(episode.written) for episode in episodes]

    def forget(self, episode: int) -> None:
        """Drop what was read of an episode that is over."""
        self._episodes.pop(episode, None)

    def _read(self, observation: Observation) -> None:
        menu = self.policy.menu
        episode = self._episodes.get(observation.episode)
        if episode is None or observation.turn == 0:
            number = observation.episode if observation.seed is None else observation.seed
            rng = np.random.default_rng([self.seed, number])
            self._episodes[observation.episode] = _Episode(menu.begin(observation.text), rng)
        else:
            episode.reading = menu.extend(episode.reading, episode.written, observation.text)

    def _choose(self, logits: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator) -> int:
        if self.temperature == 0:
            return int(logits.argmax())
        # What the mask rules out is left out, so that no rounding can choose it.
        possible = np.flatnonzero(logits > -np.inf)
        weights = np.exp((logits[possible] - logits.max()) / self.temperature).cumsum()
        place = int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))
        return int(possible[min(place, len(possible) - 1)])


def sb3_ppo(folder: str | Path, **options: Any) -> SB3Agent:
    """Load an agent that PPO trained; options as for `SB3Agent`."""
    return _load("sb3-ppo", folder, options)


def sb3_maskable_ppo(folder: str | Path, **options: Any) -> SB3Agent:
    """Load an agent that MaskablePPO trained; options as for `SB3Agent`."""
    return _load("sb3-maskable-ppo", folder, options)


def _load(algorithm: str, folder: str | Path, options: dict[str, Any]) -> SB3Agent:
    agent = SB3Agent(folder, **options)
    if agent.name != algorithm:
        raise AgentError(f"{folder} holds an agent of {agent.name}, not of {algorithm}")
    return agent


# Tells `agents.base.load_agent` to call them instead of taking them for agent functions from text to text.
sb3_ppo.is_factory = True  # type: ignore[attr-defined]
sb3_maskable_ppo.is_factory = True  # type: ignore[attr-defined]
