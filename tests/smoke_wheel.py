"""What an installed wheel must do without torch; `.ci/run` runs it outside the checkout.

    python -I smoke_wheel.py --source CHECKOUT

Needs nothing but the package with its core dependencies. The last line is the summary.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("mentor_gym", "agents", "envs_data")
HEAVY = ("torch", "transformers")


def check_installed_outside(source: Path) -> str:
    """The packages come from this interpreter's site-packages."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} is not installed"
        assert spec.origin is not None, f"{name} has no __init__.py"
        path = Path(spec.origin).resolve()
        assert path.is_relative_to(Path(sys.prefix).resolve()), f"{name} comes from {path}"
    for name in HEAVY:
        assert importlib.util.find_spec(name) is None, f"{name} is installed: this checks life without it"
    return "installed without torch"


def check_every_file(source: Path) -> str:
    """Every file of the packages is in the wheel, weights, configurations, rows and tables included.

    Not the results of the study: 3 MB that no code reads stay in the repository.
    """
    root = Path(str(importlib.util.find_spec("mentor_gym").origin)).parent.parent  # type: ignore[union-attr]
    files = [
        path.relative_to(source)
        for name in PACKAGES
        for path in sorted((source / name).rglob("*"))
        if path.is_file() and not {"__pycache__", "results"} & set(path.relative_to(source).parts)
    ]
    assert files, f"{source} holds none of the packages"
    for file in files:
        assert (root / file).is_file(), f"{file} is not in the wheel; see package-data in pyproject.toml"
        assert (root / file).read_bytes() == (source / file).read_bytes(), f"{file} differs in the wheel"
    assert not (root / "agents" / "results").exists(), "the wheel holds the results of the study"
    licences = [str(path) for path in metadata.files("mentor-gym") or () if "LICENSE" in str(path)]
    assert licences, "the wheel has no licence file"
    return f"{len(files)} files"


def check_light_import(source: Path) -> str:
    """Importing the package and its scripted agents loads nothing heavy."""
    import agents.base
    import agents.rollout
    import agents.scripted  # noqa: F401
    import mentor_gym
    import mentor_gym.cli  # noqa: F401

    loaded = [name for name in HEAVY if name in sys.modules]
    assert not loaded, f"importing loads {', '.join(loaded)}"
    return "light import"


def check_data(source: Path) -> str:
    """The manifest is there and every file matches it."""
    from mentor_gym import data

    problems = data.verify()
    assert not problems, "; ".join(problems)
    return "data match the manifest"


def check_episode(source: Path) -> str:
    """Every registered id plays its teacher's trace for the full reward, or says which extra it needs."""
    import gymnasium as gym

    import mentor_gym  # noqa: F401
    from mentor_gym.protocol import render_message
    from mentor_gym.suites import EXTRA_SUITES

    known = [name for name in gym.registry if name.startswith("MentorTool-")]
    ids = [name for name in known if gym.spec(name).kwargs.get("suite") not in EXTRA_SUITES]
    assert len(ids) >= 8, f"registered: {ids}"
    for name in set(known) - set(ids):
        said = ""
        try:
            gym.make(name).reset(seed=0)
        except (ImportError, RuntimeError) as error:
            said = str(error)
        assert "install" in said, f"{name} says {said!r}; with the core dependencies it cannot work"
    for name in ids:
        env = gym.make(name)
        env.reset(seed=0)
        earned, terminated = 0.0, False
        for message in env.unwrapped.task.teacher:  # type: ignore[attr-defined]
            if message["role"] == "assistant":
                _, reward, terminated, _, _ = env.step(render_message(message))
                earned += float(reward)
        assert terminated, f"{name}: the teacher's trace does not end the episode"
        assert abs(earned - 1.1) < 1e-9, f"{name}: the teacher earns {earned}"
        env.close()
    return f"{len(ids)} ids pay their teacher 1.1, {len(known) - len(ids)} say what to install"


def check_command_line(source: Path) -> str:
    """The console script lists, plays and, without torch, says what to install."""
    script = Path(sys.executable).with_name("mentor-gym")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, *arguments], capture_output=True, text=True, timeout=120)

    for arguments, expected in (
        (["list"], "MentorTool-v0"),
        (["rollout", "--agent", "teacher", "-n", "3"], "3 of 3 correct"),
    ):
        done = run(*arguments)
        assert done.returncode == 0, f"mentor-gym {' '.join(arguments)}: {done.stderr}"
        assert expected in done.stdout, f"mentor-gym {' '.join(arguments)}: {done.stdout}"
    done = run("eval", "tiny")
    assert done.returncode == 2, f"mentor-gym eval tiny: exit {done.returncode}: {done.stderr}"
    assert "pip install 'mentor-gym[train]'" in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return "command line"


CHECKS = (
    check_installed_outside,
    check_every_file,
    check_light_import,
    check_data,
    check_episode,
    check_command_line,
)


def main() -> int:
    """Run the checks in order; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the source tree that the wheel was built from")
    source = parser.parse_args().source.resolve()
    passed = []
    for check in CHECKS:
        try:
            passed.append(check(source))
        except AssertionError as error:
            print(f"wheel smoke: FAILED {check.__name__}: {error}")
            return 1
    print(f"wheel smoke: ok ({', '.join(passed)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
