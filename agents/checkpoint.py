"""Checkpoints: everything that a run needs to go on, in a folder that is there complete or not at all.

A checkpoint is a Hugging Face model folder with three files more: `training.json` and `training.safetensors` (what
the model's weights do not say: optimizer, random generators, place in the task order), and `manifest.json` (format
version, step, size and SHA-256 of every file). Nothing is pickled.

A checkpoint is written beside its place, flushed to the disk, and moved there by one rename, so that neither
`kill -9` nor a full disk ever leaves a broken one under its name or takes an older one away. Names that begin with
a dot belong to writes that are not finished; `clean` removes what a dead process left of them.

Left out: what the state of a run consists of (`agents.train`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mentor_gym import __version__

FORMAT_VERSION = 1
FINAL = "final"
_MANIFEST, _STATE, _TENSORS = "manifest.json", "training.json", "training.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL, _OLD, _DAMAGED = ".partial-", ".old-", "damaged-"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or used; the message names it and the reason."""


class _DamagedError(Exception):
    """A checkpoint is not what was written; the message says which file shows it."""


def write_checkpoint(folder: Path, step: int, save_model: Callable[[Path], object], state: dict[str, Any]) -> None:
    """Write a checkpoint; one of the same name is replaced when the new one is complete.

    Args:
        folder: Where it shall be, named `checkpoint-<step>` or `final`.
        step: The last training step that is in it.
        save_model: Writes model and tokenizer into a folder that exists.
        state: Tensors, numbers, texts and None, in dicts, lists and tuples.

    Raises:
        CheckpointError: It cannot be written, for example on a full disk; earlier ones are as they were.
        TypeError: The state holds something else.
    """
    partial = folder.with_name(_PARTIAL + folder.name)
    try:
        _delete(partial)
        partial.mkdir(parents=True)
        save_model(partial)
        tensors: dict[str, Tensor] = {}
        content = _encode(state, tensors)
        save_file(_separate(tensors), partial / _TENSORS)
        (partial / _STATE).write_text(json.dumps(content, allow_nan=False))
        _write_manifest(partial, step)
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        _move(partial, folder)
    except (OSError, SafetensorError) as error:
        # What was written of it would keep the disk full.
        shutil.rmtree(partial, ignore_errors=True)
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot write {folder}: {reason}; earlier checkpoints are as they were") from error


def read_state(folder: Path) -> dict[str, Any]:
    """Read the state of a checkpoint that `find_newest` has verified; its tensors are on the CPU."""
    state: dict[str, Any] = _decode(json.loads((folder / _STATE).read_text()), load_file(folder / _TENSORS))
    return state


def find_newest(output: Path) -> tuple[Path, int] | None:
    """Find the newest checkpoint of a run that is intact.

    Damaged ones that are newer are renamed to `damaged-<name>`, with a warning.

    Args:
        output: The folder of the run.

    Returns:
        The checkpoint's folder and its step; None if the run has no checkpoint.

    Raises:
        CheckpointError: There are checkpoints, but none is intact; or one has a format that is not known here.
    """
    found = list_checkpoints(output)
    if (output / FINAL).is_dir():
        found.append(output / FINAL)
    damaged: dict[Path, str] = {}
    for folder in sorted(found, key=_claimed_step, reverse=True):
        try:
            step = _verify(folder)
        except _DamagedError as error:
            damaged[folder] = str(error)
            continue
        for bad, reason in damaged.items():
            aside = bad.with_name(_DAMAGED + bad.name)
            _delete(aside)
            bad.rename(aside)
            warnings.warn(
                f"{bad} is damaged ({reason}) and was renamed to {aside.name}; {folder} is used instead",
                stacklevel=2,
            )
        return folder, step
    if damaged:
        reasons = "; ".join(f"{folder.name}: {reason}" for folder, reason in damaged.items())
        raise CheckpointError(f"no checkpoint in {output} is intact ({reasons})")
    return None


def list_checkpoints(output: Path) -> list[Path]:
    """Return the folders named `checkpoint-<step>` of a run, oldest first."""
    found = [(int(match[1]), path) for path in output.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def prune(output: Path, keep: int) -> None:
    """Remove all but the newest `keep` folders named `checkpoint-<step>`."""
    for folder in list_checkpoints(output)[:-keep]:
        # Renamed first: what a kill leaves of a removal must not look like a checkpoint.
        partial = folder.with_name(_PARTIAL + folder.name)
        _delete(partial)
        folder.rename(partial)
        shutil.rmtree(partial)


def clean(output: Path) -> None:
    """Finish or undo what a process that died was writing in the folder of a run."""
    for old in output.glob(f"{_OLD}*"):
        place = old.with_name(old.name.removeprefix(_OLD))
        if place.exists():
            shutil.rmtree(old)
        else:
            # It died between moving the old one away and moving the new one in.
            old.rename(place)
    for partial in output.glob(f"{_PARTIAL}*"):
        _delete(partial)


def replace_file(path: Path, text: str) -> None:
    """Write a text file so that, at every moment, the old content or the new one is there whole."""
    partial = path.with_name(_PARTIAL + path.name)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync(path.parent)


@contextlib.contextmanager
def lock(output: Path) -> Iterator[None]:
    """Keep the folder of a run for this process; the lock goes with the process, however it ends.

    Raises:
        CheckpointError: Another process has it.
    """
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(f"another process is training in {output}") from None
        yield


def get_rng_state() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy and torch, which user code may draw from."""
    # The state of numpy.random's global generator has no other interface.
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue from `get_rng_state`; generators of GPUs only where their number is the same."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if len(state.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state.get("cuda", []))


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn a state into what JSON has; tensors are put into `tensors` and referred to by name."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        # As pairs: JSON would turn the numbers that an optimizer's state has for keys into text.
        return {"dict": [[_encode(key, tensors), _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_encode(item, tensors) for item in value]
    if type(value) is float and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}: {value!r}")


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give every tensor memory of its own: safetensors refuses two in the same."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return separate


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `_encode`."""
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        # A copy: the file is mapped into memory, and must not be needed once it is deleted.
        return tensors[content].clone()
    if kind == "dict":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    return float(content) if kind == "float" else tuple(_decode(item, tensors) for item in content)


def _write_manifest(folder: Path, step: int) -> None:
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": _hash(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = {"format_version": FORMAT_VERSION, "package_version": __version__, "step": step, "files": files}
    content["checksum"] = _checksum(content)
    (folder / _MANIFEST).write_text(json.dumps(content, indent=1) + "\n")


def _checksum(content: dict[str, Any]) -> str:
    # The one rule that every format version keeps: it tells a version that is unknown from one that is damaged.
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise _DamagedError(f"{_MANIFEST} cannot be read") from error
    if not isinstance(content, dict) or content.get("checksum") != _checksum(content):
        raise _DamagedError(f"{_MANIFEST} does not match its checksum")
    return content


def _verify(folder: Path) -> int:
    """Compare a checkpoint with its manifest; returns its step."""
    manifest = _read_manifest(folder)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version!r} (written by mentor-gym {manifest.get('package_version')}); "
            f"mentor-gym {__version__} reads version {FORMAT_VERSION}"
        )
    for name, entry in manifest["files"].items():
        try:
            size, digest = (folder / name).stat().st_size, _hash(folder / name)
        except OSError as error:
            raise _DamagedError(f"{name} cannot be read: {error.strerror}") from error
        if size != entry["size"]:
            raise _DamagedError(f"{name} has {size} bytes instead of {entry['size']}")
        if digest != entry["sha256"]:
            raise _DamagedError(f"{name} does not match its checksum")
    return int(manifest["step"])


def _claimed_step(folder: Path) -> tuple[float, bool]:
    """Return what to sort checkpoints by before they are verified: the step, and `final` after its equal."""
    match = _NAME.fullmatch(folder.name)
    try:
        step = float(_read_manifest(folder)["step"])
    except (_DamagedError, KeyError, TypeError, ValueError):
        step = float(match[1]) if match else math.inf
    return step, match is None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(partial: Path, folder: Path) -> None:
    """Put a complete folder in its place."""
    old = folder.with_name(_OLD + folder.name)
    if folder.exists():
        # A folder cannot be renamed onto one that is not empty. Where we die between the two moves, `clean` undoes
        # the first.
        _delete(old)
        folder.rename(old)
    partial.rename(folder)
    sync(folder.parent)
    # The new one is in its place; what cannot be removed now is left to `clean`.
    shutil.rmtree(old, ignore_errors=True)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
