"""Pretrain the embedded `tiny` model from scratch on synthetic tool-use conversations.

The shipped weights were made on two CPU cores, in about twenty minutes, by

    python -m agents.pretrain --seed 0 --documents 180000 --threads 2 --out agents/weights/tiny

The text is written anew from the seed, so it is not shipped. What can be learnt later is fixed by the shares in
`agents.pretrain_text`, which says how they were set; they were never tuned for a reward.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agents.models import load_model
from agents.pretrain_text import CHAIN_SHARE, DIRECT, PARAPHRASES, SINGLE_SHARE, WORDS, Writer
from agents.tokenizer import build_tokenizer
from mentor_gym.suites.math_kinds import BOXES, ITEMS, KINDS, NAMES
from mentor_gym.tools.facts import TABLES, facts_tools, load_table
from mentor_gym.tools.math import math_tools

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

DOCUMENTS_PER_SHARD = 5_000


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer from the shipped tools and the words of the pretraining text."""
    tools = {tool.name: tool for tool in (*math_tools(), *facts_tools())}.values()
    phrases = [phrase for table in (PARAPHRASES, DIRECT) for group in table.values() for phrase in group]
    wordings = [wording for kind in KINDS for wording in kind.wordings]
    glue = ["find the of a and What is Find Which has"]
    fields = [name.replace("_", " ") for table in TABLES for name in (table, *load_table(table).fields)]
    return build_tokenizer(tools, [*wordings, *phrases, *glue, *fields, *NAMES, *ITEMS, *BOXES, *WORDS])


def make_model(vocabulary: int, hidden: int = 128, layers: int = 4) -> LlamaForCausalLM:
    """Build the untrained model: a Llama with grouped keys, tied embeddings and about 1.1 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


_tokenizer: Any = None


def write_shard(job: tuple[int, int, int, dict[str, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write and encode one shard of conversations.

    Args:
        job: Seed, number of the shard, number of conversations, and the shares that `Writer` takes.

    Returns:
        Token ids of all conversations end to end, whether the assistant wrote each, and the lengths.
    """
    global _tokenizer
    if _tokenizer is None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        _tokenizer = make_tokenizer()
    seed, shard, documents, shares = job
    writer = Writer(f"{seed}/pretrain/{shard}", **shares)
    conversations = [writer.conversation() for _ in range(documents)]
    texts = [message["content"] for conversation in conversations for message in conversation]
    encoded = iter(_tokenizer._tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    end, *_ = _tokenizer.convert_tokens_to_ids(["<|end|>"])
    roles = {role: _tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ("user", "assistant")}
    ids: list[int] = []
    mask: list[bool] = []
    lengths: list[int] = []
    for conversation in conversations:
        before = len(ids)
        for message in conversation:
            content = next(encoded).ids
            ids += [roles[message["role"]], *content, end]
            mask += [False, *[message["role"] == "assistant"] * (len(content) + 1)]
        lengths.append(len(ids) - before)
    return np.array(ids, np.uint16), np.array(mask), np.array(lengths, np.int32)


def write_text(
    seed: int, documents: int, processes: int, **shares: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write all conversations in parallel; the result depends on the seed and the shares alone."""
    shards = math.ceil(documents / DOCUMENTS_PER_SHARD)
    jobs = [(seed, shard, DOCUMENTS_PER_SHARD, shares) for shard in range(shards)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.map(write_shard, jobs, chunksize=1)
    ids, mask, lengths = (np.concatenate(arrays) for arrays in zip(*parts))
    return ids, mask, lengths


def batches(lengths: np.ndarray, tokens: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield batches of document numbers of about equal length, `tokens` padded tokens each, in random order."""
    order = np.argsort(lengths + np.random.default_rng(rng.getrandbits(32)).random(len(lengths)) * 8)
    found: list[list[int]] = []
    start = 0
    while start < len(order):
        width = int(lengths[order[min(start + tokens // 64, len(order) - 1)]])
        size = max(1, tokens // max(width, 1))
        found.append(order[start : start + size].tolist())
        start += size
    rng.shuffle(found)
    yield from found


def rate_at(step: int, steps: int) -> float:
    """Return the factor on the learning rate: linear warm-up over 200 steps, then a cosine down to nothing."""
    return min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps)))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Save model and tokenizer; half precision keeps the shipped file small, it is loaded as float32."""
    half = type(model)(model.config).half()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)


def pretrain(
    out: Path,
    seed: int = 0,
    documents: int = 180_000,
    epochs: int = 1,
    device: str = "cpu",
    learning_rate: float = 4e-3,
    batch_tokens: int = 4_096,
    threads: int = 1,
    start: str = "",
    singles: float = SINGLE_SHARE,
    chains: float = CHAIN_SHARE,
    notes: float = 0.0,
) -> None:
    """Write the text, train the model and save it with its tokenizer in Hugging Face format.

    With `start`, the name or folder of a model with the same tokenizer, training goes on from its weights.
    `singles`, `chains` and `notes` are shares of the text, see `Writer`.

    `origin.json` beside the weights says how they were made. The text is written in whole shards, so it may hold
    more documents than were asked for; the real number stands there.
    """
    command = describe_command(
        seed=seed,
        documents=documents,
        epochs=epochs,
        device=device,
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        threads=threads,
        start=start,
        singles=singles,
        chains=chains,
        notes=notes,
    )
    torch.set_num_threads(threads)
    started = time.time()
    ids, mask, lengths = write_text(
        seed, documents, os.cpu_count() or 1, singles=singles, chains=chains, notes=notes
    )
    starts = np.concatenate([[0], np.cumsum(lengths)])
    print(f"{len(lengths):,} conversations, {len(ids):,} tokens in {time.time() - started:.0f} s", flush=True)
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer)) if not start else load_model(start)[0]
    torch.nn.Module.to(model, device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer):,} tokens", flush=True)
    # Muon for the matrices of the layers reached the same loss in about two thirds of AdamW's steps here.
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, learning_rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, learning_rate / 2, betas=(0.9, 0.95)),
    ]
    rng = random.Random(f"{seed}/order")
    plan = [batch for _ in range(epochs) for batch in batches(lengths, batch_tokens, rng)]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, len(plan)))
        for optimizer in optimizers
    ]
    all_ids = torch.from_numpy(ids.astype(np.int16)).to(device)
    all_mask = torch.from_numpy(mask).to(device)
    started, seen, losses = time.time(), 0, []
    for step, batch in enumerate(plan):
        width = -(-int(lengths[batch].max()) // 16) * 16
        place = torch.arange(width)
        index = torch.from_numpy(starts[batch])[:, None] + place
        inside = (place < torch.from_numpy(lengths[batch])[:, None]).to(device)
        index = index.clamp_(max=len(ids) - 1).to(device)
        tokens_BT = torch.where(inside, all_ids[index].long() & 0xFFFF, 0)
        trained_BT = inside & all_mask[index]
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            # Right padding behind causal attention changes nothing before it, so no attention mask is needed.
            hidden_BTD = model.model(input_ids=tokens_BT, use_cache=False).last_hidden_state[:, :-1]
            logits_NV = model.lm_head(hidden_BTD[trained_BT[:, 1:]])
            loss = torch.nn.functional.cross_entropy(logits_NV.float(), tokens_BT[:, 1:][trained_BT[:, 1:]])
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules):
            optimizer.step()
            schedule.step()
        seen += tokens_BT.numel()
        losses.append(loss.detach())
        if (step + 1) % 200 == 0 or step + 1 == len(plan):
            mean = torch.stack(losses).mean().item()
            losses.clear()
            speed = seen / (time.time() - started)
            print(f"step {step + 1}/{len(plan)} loss {mean:.4f} {speed:,.0f} tokens/s", flush=True)
            save(model, tokenizer, out)
    facts = {"seed": seed, "documents": len(lengths), "epochs": epochs, "tokens": len(ids) * epochs}
    (out / "origin.json").write_text(json.dumps({"command": command, **facts}, indent=2) + "\n")


def describe_command(**arguments: Any) -> str:
    """Return the command that makes the same weights: every argument of `pretrain` that is not its default.

    >>> describe_command(seed=1, documents=180_000, batch_tokens=2_048)
    'python -m agents.pretrain --seed 1 --batch-tokens 2048'
    """
    # Not the folder: it is where they were put on one machine, and changes nothing in them.
    defaults = inspect.signature(pretrain).parameters
    changed = [(name, value) for name, value in arguments.items() if value != defaults[name].default]
    words = (f"--{name.replace('_', '-')} {value}" for name, value in changed)
    return " ".join(["python -m agents.pretrain", *words])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("agents/weights/tiny"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--documents", type=int, default=180_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--batch-tokens", type=int, default=4_096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", default="", help="a model to go on from")
    parser.add_argument("--singles", type=float, default=SINGLE_SHARE)
    parser.add_argument("--chains", type=float, default=CHAIN_SHARE)
    parser.add_argument("--notes", type=float, default=0.0)
    pretrain(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
