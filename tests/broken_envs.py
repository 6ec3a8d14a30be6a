"""Environments that break one promise each, and two that break none; `test_check_env` says which check notices."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import re
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv

from mentor_gym import MentorToolEnv, RewardWrapper, Transcript
from mentor_gym.protocol import clean, neutralise
from mentor_gym.spaces import UnicodeText
from mentor_gym.state import MAGIC, VERSION, StateError

TILL = str(Path(__file__).parent / "till_suite" / "suite.yaml")
_HEADER = len(MAGIC) + 2 + hashlib.sha256().digest_size


class Till(MentorToolEnv):
    """A sound environment over a suite whose tools have state."""

    def __init__(self, suite: str = TILL, **kwargs: Any) -> None:
        super().__init__(suite, **kwargs)


class LeakingReset(Till):
    past = ""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return self.past + observation, info

    def step(self, action: Any) -> Any:
        output = super().step(action)
        self.past += output[0]
        return output


class GlobalReseed(Till):
    def reset(self, *, seed: int | None = None, **kwargs: Any) -> Any:
        random.seed(seed)
        return super().reset(seed=seed, **kwargs)


class DrawsFromGlobal(Till):
    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return f"{observation}{random.random()}", *rest


class BothEnds(Till):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, truncated, info


class ForgetfulTools(Till):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        box: Any = self._box
        box.snapshot = lambda: json.dumps([box.prices, []]).encode()


class SeedIgnored(Till):
    def reset(self, *, seed: int | None = None, **kwargs: Any) -> Any:
        return super().reset(**kwargs)


class SeedDropped(Till):
    def reset(self, *, seed: int | None = None, **kwargs: Any) -> Any:
        return super().reset(seed=None if seed is None else 0, **kwargs)


class KeepsToolsOpen(Till):
    def step(self, action: Any) -> Any:
        output = super().step(action)
        if output[3]:
            self._box.open(self.task.state)
        return output


class CrashKeepsTools(Till):
    def step(self, action: Any) -> Any:
        output = super().step(action)
        if output[4]["stop_reason"] == "env_crashed":
            self._box.open(self.task.state)
        return output


class CloseKeepsTools(Till):
    def close(self) -> None:
        self._closed = True


class OtherInWorkers(Till):
    """What it says of itself is lost on the way from a worker process."""

    def _info(self, *args: Any) -> Any:
        return {**super()._info(*args), "note": Forgetting()}


class Forgetting:
    """An object that loses what it holds when it is pickled."""

    def __init__(self, text: str = "here") -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forgetting)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Forgetting, ("lost",)


class NeverSucceeds(Till):
    def step(self, action: Any) -> Any:
        observation, _, *ends, info = super().step(action)
        return observation, 0.0, *ends, {**info, "is_success": False}


class LosesTurn(Till):
    def _info(self, *args: Any) -> Any:
        return {**super()._info(*args), "turn": None}


class NoReason(Till):
    def _info(self, *args: Any) -> Any:
        return {**super()._info(*args), "stop_reason": None}


class ClockInInfo(Till):
    def _info(self, *args: Any) -> Any:
        return {**super()._info(*args), "time": time.perf_counter_ns()}


class EpisodeInInfo(Till):
    def _info(self, *args: Any) -> Any:
        return {**super()._info(*args), "episode": 1}


class AnswerInInfo(Till):
    def _info(self, *args: Any) -> Any:
        return {**super()._info(*args), "hint": f"not {len(self.task.answer)} characters"}


class PickledState(Till):
    def get_state(self) -> bytes:
        return b"v1" + pickle.dumps(super().get_state())

    def set_state(self, state: bytes) -> None:
        try:
            content = pickle.loads(state[2:])
        except Exception as error:
            raise StateError(str(error)) from error
        super().set_state(content)


class PickleReader(Till):
    def set_state(self, state: bytes) -> None:
        super().set_state(state if state[:1] == MAGIC[:1] else pickle.loads(state))


class NoChecksum(Till):
    def get_state(self) -> bytes:
        return super().get_state()[_HEADER:]

    def set_state(self, state: bytes) -> None:
        versioned = VERSION.to_bytes(2, "big")
        try:
            super().set_state(MAGIC + versioned + hashlib.sha256(versioned + state).digest() + state)
        except Exception as error:
            raise StateError(str(error)) from error


class HarmedByRefusal(Till):
    def set_state(self, state: bytes) -> None:
        self._box.close()
        super().set_state(state)


class StateAsText(Till):
    def get_state(self) -> Any:
        return super().get_state().decode("latin-1")

    def set_state(self, state: Any) -> None:
        super().set_state(state.encode("latin-1"))


class SavingDraws(Till):
    def get_state(self) -> bytes:
        state = super().get_state()
        self.np_random.random()
        return state


class TakesShort(Till):
    def set_state(self, state: bytes) -> None:
        if not (isinstance(state, bytes) and state and MAGIC.startswith(state)):
            super().set_state(state)


class IgnoresRest(Till):
    def set_state(self, state: bytes) -> None:
        try:
            super().set_state(state)
        except StateError:
            super().set_state(state[:-1] if isinstance(state, bytes) else state)


class StickyState(Till):
    """What it played before a state was taken shows afterwards."""

    past = ""

    def reset(self, **kwargs: Any) -> Any:
        self.past = ""
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return observation + self.past, *rest

    def set_state(self, state: bytes) -> None:
        self.past = "" if self.transcript is None else "!"
        super().set_state(state)


class TakesOthers(Till):
    def _made_with(self) -> dict[str, Any]:
        return {}


class TakesNewer(Till):
    def set_state(self, state: bytes) -> None:
        if isinstance(state, bytes) and state.startswith(MAGIC):
            header, body = state[:_HEADER], state[_HEADER:]
            if hashlib.sha256(header[len(MAGIC) :][:2] + body).digest() == header[len(MAGIC) + 2 :]:
                versioned = VERSION.to_bytes(2, "big")
                state = MAGIC + versioned + hashlib.sha256(versioned + body).digest() + body
        super().set_state(state)


class CrashesOnRefusal(Till):
    def set_state(self, state: bytes) -> None:
        if not isinstance(state, bytes):
            raise TypeError("a state is bytes")
        super().set_state(state)


class SharingClose(Till):
    def clone(self) -> Any:
        twin = super().clone()
        twin.close = self._box.close  # type: ignore[method-assign]
        return twin


class SharingList(Till):
    def clone(self) -> Any:
        twin = super().clone()
        box: Any = twin._box
        box.scanned = self._box.scanned  # type: ignore[attr-defined]
        return twin


class CloneIsSelf(Till):
    def clone(self) -> Any:
        return self


class CloneForgets(Till):
    def clone(self) -> Any:
        twin = super().clone()
        twin.reset()
        return twin


class SharingClone(Till):
    def clone(self) -> Any:
        twin = super().clone()
        twin._box, twin.tools = self._box, self.tools
        return twin


class StepsOn(Till):
    def step(self, action: Any) -> Any:
        if self.transcript is not None and self.transcript.stop_reason is not None:
            return "", 0.0, True, False, {}
        return super().step(action)


class MarkerEcho(Till):
    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return f"{observation}\nyou wrote: {clean(str(action)[:200])}", *rest


class RefusesNone(Till):
    def step(self, action: Any) -> Any:
        return super().step(action[:] if action is None else action)


class ReadsFiles(Till):
    def step(self, action: Any) -> Any:
        Path(__file__).read_bytes()
        return super().step(action)


class ShowsEnvironment(Till):
    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        known = [name for name in os.environ if isinstance(action, str) and name in action]
        return observation + "".join(os.environ[name] for name in known), *rest


class NoTermsWrapper(RewardWrapper):
    def step(self, action: Any) -> Any:
        output = super().step(action)
        if output[3]:
            del output[4]["reward_terms"]
        return output


class NoTermsAtCrashWrapper(RewardWrapper):
    def step(self, action: Any) -> Any:
        output = super().step(action)
        if output[4]["stop_reason"] == "env_crashed":
            del output[4]["reward_terms"]
        return output


def no_terms_at_a_crash() -> Any:
    return NoTermsAtCrashWrapper(Till(), "sparse")


def no_terms_on_truncation() -> Any:
    return NoTermsWrapper(Till(), "sparse")


class Paying:
    """A reward of 1 for success and `cut_off` for a truncated episode."""

    def __init__(self, maximum: float, cut_off: float = 0.0, error: str = "") -> None:
        self.maximum = maximum
        self.cut_off = cut_off
        self.error = error

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        if self.error:
            raise RuntimeError(self.error)
        reason = transcript.stop_reason
        cut_off = reason is not None and reason.truncates
        return {"outcome": float(transcript.is_success), "cut off": self.cut_off if cut_off else 0.0}


class HalfTermsWrapper(RewardWrapper):
    def step(self, action: Any) -> Any:
        output = super().step(action)
        if output[2]:
            output[4]["reward_terms"]["outcome"] = 0.5
        return output


def terms_that_do_not_add_up() -> Any:
    return HalfTermsWrapper(Till(), "sparse")


def only_in_this_process() -> Any:
    if os.environ.get("PYTHONHASHSEED") == "1":
        raise RuntimeError("not here")
    return Till()


def out_of_the_teachers_reach() -> Any:
    return RewardWrapper(Till(), Paying(maximum=2.0))


def paid_for_being_cut_off() -> Any:
    return RewardWrapper(Till(), Paying(maximum=1.0, cut_off=1.5))


def reward_that_raises() -> Any:
    return RewardWrapper(Till(), Paying(maximum=1.0, error="no such key"))


# Environments that know nothing of mentor_gym


class Guess(gym.Env[str, str]):
    """Guess a number from 1 to 20 in five tries: a sound environment without any extras."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, tries: int = 5) -> None:
        self.action_space = UnicodeText(200)
        self.observation_space = UnicodeText(500)
        self.tries = tries

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.number = int(self.np_random.integers(1, 21))
        self.left = self.tries
        return "Which number from 1 to 20?", {"left": self.left}

    def step(self, action: str) -> Any:
        self.left -= 1
        given = int(action) if re.fullmatch("[0-9]{1,3}", action) else None
        if given is None:
            observation = f"{neutralise(clean(action[:100]))} is no number."
        else:
            observation = "Right!" if given == self.number else "Higher." if given < self.number else "Lower."
        terminated = given == self.number
        reward = 1.0 if terminated else 0.0
        return observation, reward, terminated, not terminated and self.left <= 0, {"left": self.left}


class NanReward(Guess):
    def step(self, action: str) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float("nan") if truncated else reward, terminated, truncated, info


class ArrayReward(Guess):
    def step(self, action: str) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, np.array(reward), *rest


class AsciiSpaces(Guess):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Text(200)  # type: ignore[assignment]


class NoOptions(Guess):
    def reset(self, *, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class ListObservation(Guess):
    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return [observation], info


class NoInfo(Guess):
    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0], None


class OnlyObservation(Guess):
    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0]


class IntegerEnds(Guess):
    def step(self, action: str) -> Any:
        observation, reward, terminated, *rest = super().step(action)
        return observation, reward, int(terminated), *rest


class NumpyEnds(Guess):
    def step(self, action: str) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, np.bool_(truncated) if truncated else False, info


class TooLong(Guess):
    def step(self, action: str) -> Any:
        observation, *rest = super().step(action)
        return observation * 100, *rest


class ListLater(Guess):
    def step(self, action: str) -> Any:
        observation, *rest = super().step(action)
        return observation if action.isdigit() else [observation], *rest


class BytesSpace(UnicodeText):
    def contains(self, x: Any) -> bool:
        return isinstance(x, bytes) or super().contains(x)


class BytesAllowed(Guess):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = BytesSpace(200)


class SamplesOutside(Guess):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space.sample = lambda: 3  # type: ignore[method-assign, assignment, return-value]


class NoSpaces(Guess):
    def __init__(self) -> None:
        self.tries = 5


class StuckAfterHostile(Guess):
    stuck = False

    def reset(self, **kwargs: Any) -> Any:
        if self.stuck:
            raise RuntimeError("stuck")
        return super().reset(**kwargs)

    def step(self, action: str) -> Any:
        self.stuck = self.stuck or "[[[" in action
        return super().step(action)


class SeedUnused(Guess):
    """It draws its number anew from the system for no seed, and a fixed one for any."""

    def reset(self, *, seed: int | None = None, **kwargs: Any) -> Any:
        observation, info = super().reset(seed=None if seed is None else 0, **kwargs)
        return f"{observation} Round {self.np_random.integers(1000)}.", info


class OldApi(Guess):
    def step(self, action: str) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class SurrogateEcho(Guess):
    def step(self, action: str) -> Any:
        observation, *rest = super().step(action)
        return observation + action[:20], *rest


class Hangs(Guess):
    def step(self, action: str) -> Any:
        if "[[[" in action:
            time.sleep(60)
        return super().step(action)


class Slow(Guess):
    def step(self, action: str) -> Any:
        if "[[[" in action:
            time.sleep(0.3)
        return super().step(action)


class SlowOnce(Guess):
    """It is slow the first time, as any environment may be on a busy machine."""

    waited = False

    def step(self, action: str) -> Any:
        if "[[[" in action and not self.waited:
            self.waited = True
            time.sleep(0.3)
        return super().step(action)


class HashOrder(Guess):
    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return " ".join({"even", "odd", "prime", "square", "large", "small", "round"}) + observation, info


class CloseOnce(Guess):
    is_closed = False

    def close(self) -> None:
        if self.is_closed:
            raise RuntimeError("closed already")
        self.is_closed = True


class OldReset(Guess):
    def reset(  # type: ignore[override]
        self, *, seed: int | None = None, options: dict[str, Any] | None = None, return_info: bool = True
    ) -> Any:
        return super().reset(seed=seed, options=options)


_only_one = Guess()


def same_object() -> Any:
    return _only_one


class Numbered(Guess):
    """It works with an argument that JSON does not hold."""

    def __init__(self, tries: Any) -> None:
        super().__init__(int(tries))


def not_an_environment() -> Any:
    return object()


def cannot_be_made() -> Any:
    raise RuntimeError("no such level")


class MadeOnce(Guess):
    """It cannot be made with the arguments that it leaves in its spec."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        if not words:
            raise ValueError("no words are left")
        words.clear()


class Shouting(gym.Wrapper[str, str, str, str]):
    """A wrapper that its spec does not know of."""


class TakesFromItsArguments(Guess):
    """It empties a list that it was given, so that its spec makes another environment."""

    def __init__(self, tries: list[int]) -> None:
        super().__init__(tries.pop() if tries else 2)


def loud_later(words: list[str]) -> Any:
    """Return an environment the first time, and a wrapped one for what is left of its arguments."""
    if words:
        words.clear()
        return Guess()
    return Shouting(Guess())


class OtherSeeds(SyncVectorEnv):
    """A vector that gives its environments other seeds than it is given."""

    def __init__(self, num_envs: int, autoreset_mode: Any, **kwargs: Any) -> None:
        super().__init__([lambda: Guess(**kwargs)] * num_envs, autoreset_mode=autoreset_mode)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=seed and [item and item + 7 for item in seed], options=options)


gym.register("Guess-v0", entry_point="broken_envs:Guess")
gym.register("GuessKind-v0", entry_point="broken_envs:Numbered", kwargs={"tries": np.int64(5)})


class OtherFinal(SyncVectorEnv):
    """A vector that loses the last observation of an episode, in the one mode that has one."""

    def __init__(self, num_envs: int, autoreset_mode: Any, **kwargs: Any) -> None:
        super().__init__([lambda: Guess(**kwargs)] * num_envs, autoreset_mode=autoreset_mode)

    def step(self, actions: Any) -> Any:
        output = super().step(actions)
        if "final_obs" in output[4]:
            output[4]["final_obs"] = output[0]
        return output


gym.register("GuessFinal-v0", entry_point="broken_envs:Guess", vector_entry_point="broken_envs:OtherFinal")
gym.register("GuessWords-v0", entry_point="broken_envs:MadeOnce", kwargs={"words": ["a"]})
gym.register("GuessLoud-v0", entry_point="broken_envs:loud_later", kwargs={"words": ["a"]})
gym.register("Random-v0", entry_point="broken_envs:SeedIgnored", nondeterministic=True)
gym.register(
    "GuessOnce-v0", entry_point="broken_envs:TakesFromItsArguments", kwargs={"tries": [5, 4]}, order_enforce=False
)
gym.register("GuessMany-v0", entry_point="broken_envs:Guess", vector_entry_point="broken_envs:OtherSeeds")
