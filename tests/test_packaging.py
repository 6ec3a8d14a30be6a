"""What is shipped: light imports, package data, the console script, and documents that name what exists."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("mentor_gym", "agents", "envs_data")
CONFIGS = sorted((ROOT / "agents" / "configs").glob("*.yaml"))


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "modules", ["mentor_gym", "mentor_gym.cli", "agents.base, agents.scripted, agents.rollout, agents.trajectory"]
)
def test_environment_side_imports_nothing_heavy(modules: str) -> None:
    heavy = "{'torch', 'transformers', 'matplotlib', 'stable_baselines3'}"
    assert python(f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_mentor_gym_does_not_import_agents() -> None:
    code = "import sys, mentor_gym, mentor_gym.cli; print('agents' in sys.modules)"
    assert python(code) == "False"


def test_environments_need_an_import_and_no_more() -> None:
    code = "import gymnasium as gym; print(gym.make('mentor_gym:MentorTool-v0').unwrapped.splits[0])"
    assert python(code) == "train"


def test_console_script_answers() -> None:
    script = Path(sys.executable).with_name("mentor-gym")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "rollout" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_every_data_file_is_package_data(package: str) -> None:
    folder = ROOT / package
    globs = PROJECT["tool"]["setuptools"]["package-data"][package]
    shipped = {path for glob in globs for path in folder.glob(glob)}
    # What the study found is for readers of the repository: 3 MB that no code reads.
    ignored = {"__pycache__", ".ipynb_checkpoints", "results"}
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".py" and not ignored & set(path.parts)
    ]
    assert files, f"{package} holds no data files"
    assert [str(path.relative_to(ROOT)) for path in files if path not in shipped] == []


def test_every_module_folder_is_a_package() -> None:
    """A folder without `__init__.py` would be left out of the wheel."""
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_no_tests_folder_shadows_a_package() -> None:
    assert [name for name in PACKAGES if (ROOT / "tests" / name).exists()] == []


def test_version_is_the_same_everywhere() -> None:
    import mentor_gym

    version = PROJECT["project"]["version"]
    assert mentor_gym.__version__ == version == metadata.version("mentor-gym")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def test_constraints_pin_every_dependency_exactly() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []
    pinned = {_name(line) for line in lines}
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    assert {_name(item) for item in wanted} - pinned == set()
    assert "mentor-gym" not in pinned


def test_heavy_packages_are_not_core_dependencies() -> None:
    core = {_name(item) for item in PROJECT["project"]["dependencies"]}
    assert core & {"torch", "transformers", "stable-baselines3", "matplotlib", "tensorboard"} == set()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_loads(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    if path.stem in ("demo", "study"):  # formats of their own, whose arms are configurations
        return
    from agents.config import TrainConfig, read_config
    from agents.sb3_train import SB3Config

    kind = SB3Config if content["algorithm"].startswith("sb3-") else TrainConfig
    config = read_config(kind, path)
    for key, value in content.items():
        assert getattr(config, key) == value, key


def test_readme_names_only_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "test-slow", "bench", "lint", "data", "venv", "clean"} <= targets
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^\s*(?:\$ )?|`)make ([a-z][a-z-]*)", readme, re.MULTILINE))
    assert named - targets == set()


def test_readme_names_only_commands_that_exist() -> None:
    import typer

    from mentor_gym import cli

    command = typer.main.get_command(cli.app)
    known = set(command.commands)  # type: ignore[attr-defined]
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"(?:^\s*(?:\$ )?|`)mentor-gym ([a-z][a-z-]*)", readme, re.MULTILINE)) - known == set()
