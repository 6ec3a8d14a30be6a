"""Checkpoints: exact, verified, and whole at every moment at which a process can die."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents import checkpoint
from agents.checkpoint import CheckpointError, find_newest, read_state, write_checkpoint

TYPES = (torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool)


class Crash(BaseException):
    """Stands for `kill -9`: no handler of the code under test catches it."""


def save_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"hidden_size": 32}')
    # Tokenizers may write folders.
    (folder / "templates").mkdir()
    (folder / "templates" / "chat.jinja").write_text("{{ messages }}")


def write(output: Path, step: int, name: str = "", content: float | None = None) -> Path:
    folder = output / (name or f"checkpoint-{step}")
    value = float(step) if content is None else content
    write_checkpoint(folder, step, save_model, {"value": value, "tensor": torch.full((3,), value)})
    return folder


def reseal(folder: Path, **changes: Any) -> None:
    """Change a manifest as another version of this package would have written it."""
    path = folder / "manifest.json"
    content = {**json.loads(path.read_text()), **changes}
    content["checksum"] = checkpoint._checksum(content)
    path.write_text(json.dumps(content))


def equal(a: Any, b: Any) -> bool:
    """Compare states exactly: types, and the bits of numbers."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b) if not isinstance(a, float) else a.hex() == b.hex()


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.builds(torch.tensor, st.lists(st.floats(width=32), max_size=3))
)
states = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text("ab", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(states)
def test_a_state_comes_back_as_it_was(state: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    content = json.loads(json.dumps(checkpoint._encode(state, tensors), allow_nan=False))
    assert equal(checkpoint._decode(content, tensors), state)


def test_tensors_of_every_kind_come_back_from_the_disk(tmp_path: Path) -> None:
    whole = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    state = {
        "shared": [whole, whole, whole[1], whole.T],
        "scalar": torch.tensor(3.0),
        "empty": [torch.empty(0), torch.empty(0, 2)],
        "types": [torch.tensor([1.5]).to(kind) for kind in TYPES],
        "learnt": torch.nn.Parameter(torch.tensor([math.nan, math.inf])),
    }  # fmt: skip
    write_checkpoint(tmp_path / "checkpoint-1", 1, save_model, state)
    found = read_state(tmp_path / "checkpoint-1")
    assert torch.equal(found["shared"][3], whole.T)
    assert torch.equal(found["shared"][2], whole[1])
    found["shared"][0] += 1
    assert torch.equal(found["shared"][1], whole), "tensors must not share memory"
    assert equal(found["scalar"], state["scalar"])
    assert [tuple(tensor.shape) for tensor in found["empty"]] == [(0,), (0, 2)]
    for a, b in zip(found["types"], state["types"]):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert found["learnt"].isnan().tolist() == [True, False]


def test_the_state_of_an_optimizer_comes_back(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    write_checkpoint(tmp_path / "checkpoint-1", 1, save_model, {"adamw": optimizer.state_dict()})
    assert equal(read_state(tmp_path / "checkpoint-1")["adamw"], optimizer.state_dict())


@pytest.mark.parametrize("value", [np.float64(1.0), np.zeros(2), {1, 2}, b"bytes", object()])
def test_what_could_not_come_back_is_refused(tmp_path: Path, value: Any) -> None:
    write(tmp_path, 1)
    with pytest.raises(TypeError, match=f"cannot hold {type(value).__name__}"):
        write_checkpoint(tmp_path / "checkpoint-2", 2, save_model, {"value": value})
    assert find_newest(tmp_path) == (tmp_path / "checkpoint-1", 1)


def test_generators_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.gauss(0, 1), float(np.random.normal()), float(torch.randn(()))]  # noqa: NPY002

    draw()
    write_checkpoint(tmp_path / "checkpoint-1", 1, save_model, checkpoint.get_rng_state())
    expected = [draw() for _ in range(3)]
    checkpoint.set_rng_state(read_state(tmp_path / "checkpoint-1"))
    assert [draw() for _ in range(3)] == expected


def test_a_checkpoint_holds_what_its_manifest_says(tmp_path: Path) -> None:
    folder = write(tmp_path, 7)
    manifest = json.loads((folder / "manifest.json").read_text())
    names = {"config.json", "templates/chat.jinja", "training.json", "training.safetensors"}
    assert manifest["files"].keys() == names
    assert manifest["files"]["config.json"]["size"] == len('{"hidden_size": 32}')
    assert (manifest["step"], manifest["format_version"]) == (7, checkpoint.FORMAT_VERSION)
    assert manifest["package_version"]
    assert find_newest(tmp_path) == (folder, 7)
    assert read_state(folder)["value"] == 7.0


def test_the_newest_by_step_is_found_and_the_end_of_a_run_among_them(tmp_path: Path) -> None:
    assert find_newest(tmp_path) is None
    for step in (2, 10, 9):
        write(tmp_path, step)
    (tmp_path / "checkpoint-x").mkdir()
    assert find_newest(tmp_path) == (tmp_path / "checkpoint-10", 10)
    write(tmp_path, 4, "final")
    assert find_newest(tmp_path) == (tmp_path / "checkpoint-10", 10)
    write(tmp_path, 10, "final")
    assert find_newest(tmp_path) == (tmp_path / "final", 10)


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["checkpoint-3", "final"])
@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_in_any_file_is_noticed_and_an_older_checkpoint_used(
    tmp_path: Path, seed: int, name: str
) -> None:
    chance = random.Random(seed)
    write(tmp_path, 1)
    write(tmp_path, 2)
    folder = write(tmp_path, 3, name)
    for path in files_of(folder):
        whole = path.read_bytes()
        flip(path, chance)
        with pytest.warns(UserWarning, match=rf"{name} is damaged \({path.relative_to(folder)} .*checkpoint-2 is"):
            assert find_newest(tmp_path) == (tmp_path / "checkpoint-2", 2)
        assert not folder.exists()
        (tmp_path / f"damaged-{name}").rename(folder)
        path.write_bytes(whole)
    assert find_newest(tmp_path) == (folder, 3)


def test_every_bit_of_the_format_version_is_guarded(tmp_path: Path) -> None:
    """One flip turns version 1 into version 3: that is damage, for which there is an older checkpoint."""
    write(tmp_path, 1)
    folder = write(tmp_path, 2)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 3'))
    with pytest.warns(UserWarning, match=r"manifest.json does not match its checksum"):
        assert find_newest(tmp_path) == (tmp_path / "checkpoint-1", 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: os.truncate(folder / "training.safetensors", 40), "has 40 bytes instead of"),
        (lambda folder: os.truncate(folder / "training.json", 0), "has 0 bytes instead of"),
        (lambda folder: os.truncate(folder / "manifest.json", 100), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json does not match"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "config.json cannot be read: No such file"),
        (lambda folder: shutil.rmtree(folder / "templates"), "chat.jinja cannot be read: No such file"),
    ],
)
def test_truncated_and_missing_files_are_noticed(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    write(tmp_path, 1)
    damage(write(tmp_path, 2))
    with pytest.warns(UserWarning, match=reason):
        assert find_newest(tmp_path) == (tmp_path / "checkpoint-1", 1)


def test_an_older_checkpoint_under_a_newer_name_counts_as_what_it_is(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    (tmp_path / "checkpoint-1").rename(tmp_path / "checkpoint-3")
    assert find_newest(tmp_path) == (tmp_path / "checkpoint-2", 2)


def test_several_damaged_ones_are_set_aside_and_earlier_damaged_ones_replaced(tmp_path: Path) -> None:
    for round_ in range(2):
        for step in (1, 2, 3):
            write(tmp_path, step, content=round_)
        for step in (2, 3):
            (tmp_path / f"checkpoint-{step}" / "config.json").write_text("")
        with pytest.warns(UserWarning, match="is damaged") as warned:
            assert find_newest(tmp_path) == (tmp_path / "checkpoint-1", 1)
        assert len(warned) == 2
    names = ["checkpoint-1", "damaged-checkpoint-2", "damaged-checkpoint-3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert read_state(tmp_path / "damaged-checkpoint-3")["value"] == 1.0


def test_without_an_intact_checkpoint_nothing_is_begun_anew(tmp_path: Path) -> None:
    for step in (1, 2):
        (write(tmp_path, step) / "config.json").write_text("")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is intact \(checkpoint-2: config.json has 0"):
        find_newest(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2"]


def test_an_unknown_format_is_refused_and_not_taken_for_damage(tmp_path: Path) -> None:
    write(tmp_path, 1)
    reseal(write(tmp_path, 2), format_version=2, package_version="9.0")
    with pytest.raises(CheckpointError, match=r"checkpoint-2 has format version 2 \(written by mentor-gym 9.0\)"):
        find_newest(tmp_path)
    assert (tmp_path / "checkpoint-2").exists()


def test_a_foreign_folder_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 1)
    foreign = tmp_path / "checkpoint-2"
    foreign.mkdir()
    (foreign / "manifest.json").write_text('{"files": {}, "step": 2, "format_version": 1}')
    with pytest.warns(UserWarning, match="does not match its checksum"):
        assert find_newest(tmp_path) == (tmp_path / "checkpoint-1", 1)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 11):
        write(tmp_path, step)
    write(tmp_path, 12, "final")
    checkpoint.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-11", "checkpoint-3", "final"]


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[str]]:
    """Arrange that the n-th change to the disk from now on is the last thing that is tried; None for never."""
    left: list[float] = [math.inf]
    done: list[str] = []

    def wrap(module: Any, name: str) -> None:
        original = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                if name == "write_text":
                    # Nothing is written in one go.
                    original(args[0], args[1][: len(args[1]) // 2])
                raise Crash
            done.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, wrapped)

    for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync"):
        wrap(os, name)
    wrap(Path, "write_text")
    wrap(checkpoint, "save_file")

    def arm(count: int | None) -> list[str]:
        left[0] = math.inf if count is None else count
        done.clear()
        return done

    return arm


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "same name"])
def test_death_at_any_moment_of_a_save_loses_nothing(
    tmp_path: Path, dying: Callable[[int | None], list[str]], replaces: bool
) -> None:
    """Die at the first change to the disk, at the second, and so on, until the save and the pruning go through."""
    survived = 0
    for moment in range(1000):
        output = tmp_path / str(moment)
        dying(None)
        write(output, 1)
        if replaces:
            write(output, 2, content=-2.0)
        changes = dying(moment)
        try:
            write(output, 2)
            checkpoint.prune(output, 1)
        except Crash:
            pass
        else:
            break
        finally:
            calls = list(changes)
            dying(None)
        checkpoint.clean(output)
        found = find_newest(output)
        assert found is not None, calls
        if found[1] == 2:
            value = read_state(found[0])["value"]
            assert value == 2.0 or (replaces and value == -2.0), calls
            survived += value == 2.0
        else:
            assert not replaces, calls
            assert read_state(found[0])["value"] == 1.0
        # Nothing that is half there is left, under any name, and the next save goes through.
        assert {path.name for path in output.iterdir()} <= {"checkpoint-1", "checkpoint-2"}, calls
        for path in output.iterdir():
            checkpoint._verify(path)
        write(output, 3)
        assert find_newest(output) == (output / "checkpoint-3", 3)
    assert {"rename", "fsync", "unlink", "rmdir", "mkdir", "write_text", "save_file"} <= set(calls)
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-2"]
    # It dies after the new one is in place too, while the old ones are removed.
    assert moment > 25
    assert 5 < survived < moment - 10


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    folder = write(tmp_path, 1)
    partial = tmp_path / ".partial-checkpoint-1"
    # Each file and folder under the name that it had before the move; the list of names last, after it.
    inside = {partial / path.relative_to(folder) for path in folder.rglob("*")} | {partial}
    assert set(synced[:-1]) == inside
    assert synced[-1] == tmp_path


@pytest.mark.parametrize("where", ["model", "tensors", "state", "manifest", "folder"])
def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    write(tmp_path, 1)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wanted = {"model": "config.json", "state": "training.json", "manifest": "manifest.json"}.get(where)
    write_text = Path.write_text

    def write_some(path: Path, text: str, *args: Any, **kwargs: Any) -> int:
        if path.name != wanted:
            return write_text(path, text, *args, **kwargs)
        write_text(path, text[:5], *args, **kwargs)
        raise full

    def fail(*_: Any, **__: Any) -> None:
        raise full

    monkeypatch.setattr(Path, "write_text", write_some)
    if where == "tensors":
        monkeypatch.setattr(checkpoint, "save_file", fail)
    if where == "folder":
        monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(CheckpointError, match=r"cannot write .*checkpoint-2: .*No space left on device; earlier"):
        write(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert find_newest(tmp_path) == (tmp_path / "checkpoint-1", 1)


def test_a_write_that_the_system_refuses_is_reported_by_every_writer(tmp_path: Path) -> None:
    """The same with a real limit: safetensors writes past Python, with errors of its own."""
    write(tmp_path, 1)
    code = f"""
import resource, torch
from pathlib import Path
from agents.checkpoint import CheckpointError, write_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))
state = {{"x": torch.zeros(100_000)}}
try:
    write_checkpoint(Path({str(tmp_path)!r}, "checkpoint-2"), 2, lambda folder: None, state)
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "File too large" in done.stdout
    assert "\n" not in done.stdout.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_leftovers_of_a_dead_write_are_removed(tmp_path: Path) -> None:
    write(tmp_path, 2)
    for name in (".partial-checkpoint-3", ".old-checkpoint-2"):
        shutil.copytree(tmp_path / "checkpoint-2", tmp_path / name)
    (tmp_path / ".partial-metrics.jsonl").write_text("{")
    # Died between the two moves of a replacement.
    shutil.copytree(tmp_path / "checkpoint-2", tmp_path / ".old-final")
    checkpoint.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "final"]


def test_a_file_is_replaced_whole(tmp_path: Path, dying: Callable[[int | None], list[str]]) -> None:
    path = tmp_path / "file"
    checkpoint.replace_file(path, "old")
    for moment in range(10):
        dying(moment)
        try:
            checkpoint.replace_file(path, "new and longer")
        except Crash:
            pass
        else:
            break
        finally:
            dying(None)
        assert path.read_text() in ("old", "new and longer"), moment
        path.write_text("old")
        checkpoint.clean(tmp_path)
    assert moment > 1
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "new and longer"


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    with checkpoint.lock(tmp_path):
        with pytest.raises(CheckpointError, match="another process is training in"), checkpoint.lock(tmp_path):
            pass
        # The refused one must not have taken the first one's lock away.
        with pytest.raises(CheckpointError), checkpoint.lock(tmp_path):
            pass
    with checkpoint.lock(tmp_path):
        pass
