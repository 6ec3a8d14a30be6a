"""Two ways to run a model on packed tokens over the sampler's cache, and the choice between them.

- `FusedDecoder`: decoders of the Llama kind (Llama, Mistral, Qwen2, Qwen3), with the weights laid out for speed:
  query, key and value in one product, gate and up in another, norms folded into what follows them.
- `ModelDecoder`: the model's own modules, with our attention in place of theirs; any model that goes through the
  attention interface of transformers.

`make_decoder` takes the first that reproduces the logits of the model's own forward on a few tokens. A model that
neither can run (a sliding window, a recurrent layer, soft-capped logits) is left to its own `forward` and cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, rms_norm, silu

from agents.attention import TOLERANCE, UNKNOWN_ARGUMENTS, using_attention
from agents.keyvalues import KeyValues, Reads
from agents.lora import effective_weight

_ATTENTION = "mentor_gym_sampling"
_FUSED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
# An output layer of more weights is used as it is; another layer of more is cut into blocks of so many columns.
_LARGE_HEAD = 4_000_000
_LARGE_WEIGHT = 300_000
_BLOCK_COLUMNS = 384


class Decoder(Protocol):
    """Runs a model on packed tokens over a cache."""

    layers: int

    def refresh(self) -> None:
        """Take over the model's weights as they are now."""
        ...

    def logits(self, reads: Reads, cache: KeyValues) -> Tensor:
        """Read tokens into the cache; returns the logits after the final token of each row, [rows, V]."""
        ...


class ModelDecoder:
    """The model's own modules, with attention over our cache.

    Args:
        model: A Hugging Face causal language model whose layers use the attention interface.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = int(model.config.num_hidden_layers)

    def refresh(self) -> None:
        """Nothing to do: the modules hold the weights."""

    def logits(self, reads: Reads, cache: KeyValues) -> Tensor:
        """Read tokens into the cache; returns the logits after the final token of each row, [rows, V]."""

        def attend(
            module: nn.Module, queries: Tensor, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, None]:
            if any(kwargs.get(name) is not None for name in UNKNOWN_ARGUMENTS):
                raise ValueError(f"{type(module).__name__} attends in a way that is not known here")
            # [1, heads, N, size] comes in, [1, N, heads, size] goes out.
            layer: Any = module.layer_idx
            stored = cache.write(layer, reads, keys[0].transpose(0, 1), values[0].transpose(0, 1))
            packed = queries[0].transpose(0, 1).contiguous()
            scale = kwargs.get("scaling") or packed.shape[-1] ** -0.5
            return reads.attend(packed, *stored, scale)[None], None

        with using_attention(self.model, _ATTENTION, attend):
            hidden = self.model.base_model(
                input_ids=reads.token_ids_N[None], position_ids=reads.position_ids_N[None], use_cache=False
            ).last_hidden_state
        logits: Tensor = self.model.get_output_embeddings()(hidden[0, : reads.count])
        return logits


@dataclass(slots=True)
class _Layer:
    """A layer's weights as blocks of [in, out], with the norm before them folded in; biases are None or [out]."""

    attention: list[Tensor]
    attention_bias: Tensor | None
    head_norm: Tensor | None
    output: list[Tensor]
    output_bias: Tensor | None
    gate_up: list[Tensor]
    gate_up_bias: Tensor | None
    down: list[Tensor]
    down_bias: Tensor | None


class FusedDecoder:
    """A Llama-like decoder with its weights laid out for single tokens of few rows.

    Products are small there, so what counts is the number of operations and how the weights lie in memory: they
    are stored as [in, out], which the matrix library reads without packing them anew at every token. The two
    halves that rotary embeddings turn against each other are interleaved in the weights of query and key (scores
    do not notice, as both are), so that the rotation is one complex product.

    Args:
        model: A causal language model of the Llama kind; its weights are copied at every `refresh`.

    Raises:
        ValueError: It is of another kind.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        if type(model).__name__ not in _FUSED or config.hidden_act != "silu" or rope in ("dynamic", "longrope"):
            raise ValueError(f"{type(model).__name__} is no decoder of the Llama kind")
        self.model = model
        self.layers = int(config.num_hidden_layers)
        self.heads = int(config.num_attention_heads)
        self.shared = int(config.num_key_value_heads)
        self.size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.epsilon = float(config.rms_norm_eps)
        self._rotation = torch.empty(0)
        self._layers: list[_Layer] = []
        self.refresh()

    @torch.inference_mode()
    def refresh(self) -> None:
        """Copy the model's weights, adapters added."""
        inner = self.model.model
        before: Sequence[_Layer | None] = self._layers or [None] * self.layers
        self._layers = [self._lay_out(layer, old) for layer, old in zip(inner.layers, before)]
        self._embedding = inner.embed_tokens.weight.detach()
        self._norm = inner.norm.weight.detach()
        head = effective_weight(self.model.get_output_embeddings())
        # A large one is bound by memory however it lies there, and may well be the embedding.
        self._plain_head = head if head.numel() > _LARGE_HEAD else None
        self._head = _columns([head], self._norm, None) if self._plain_head is None else []

    def _lay_out(self, layer: Any, old: _Layer | None) -> _Layer:
        """Copy a layer's weights, into the memory of `old` where there is one."""
        attention, mlp = layer.self_attn, layer.mlp
        # Rows of a head in the order (0, half, 1, half + 1, ...).
        pairs = torch.arange(self.size).view(2, -1).t().flatten()

        def paired(rows: Tensor) -> Tensor:
            return rows.view(-1, self.size, *rows.shape[1:])[:, pairs].reshape(rows.shape)

        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
        qkv = [paired(effective_weight(query)), paired(effective_weight(key)), effective_weight(value)]
        qkv_bias = None
        if query.bias is not None:
            qkv_bias = torch.cat([paired(query.bias), paired(key.bias), value.bias]).detach()
        head_norm = None
        if hasattr(attention, "q_norm"):
            norms = [paired(norm.weight) for norm in (attention.q_norm, attention.k_norm)]
            head_norm = torch.cat([norms[0].expand(self.heads, -1), norms[1].expand(self.shared, -1)])
        gates = [mlp.gate_proj, mlp.up_proj]
        gate_bias = None
        if gates[0].bias is not None:
            gate_bias = torch.cat([gate.bias for gate in gates]).detach()
        return _Layer(
            _columns(qkv, layer.input_layernorm.weight, old.attention if old else None),
            qkv_bias,
            head_norm,
            _columns([effective_weight(attention.o_proj)], None, old.output if old else None),
            _bias(attention.o_proj.bias),
            _columns(
                [effective_weight(gate) for gate in gates],
                layer.post_attention_layernorm.weight,
                old.gate_up if old else None,
            ),
            gate_bias,
            _columns([effective_weight(mlp.down_proj)], None, old.down if old else None),
            _bias(mlp.down_proj.bias),
        )

    def logits(self, reads: Reads, cache: KeyValues) -> Tensor:
        """Read tokens into the cache; returns the logits after the final token of each row, [rows, V]."""
        x = embedding(reads.token_ids_N, self._embedding)
        total, width = x.shape
        rotation = self._rotations(cache.columns)[reads.position_ids_N][:, None]
        turned = self.heads + self.shared
        scale = self.size**-0.5
        for index, layer in enumerate(self._layers):
            read = rms_norm(x, (width,), eps=self.epsilon)
            projected = _product(read, layer.attention, layer.attention_bias)
            projected = projected.view(total, turned + self.shared, self.size)
            pair = projected[:, :turned]
            if layer.head_norm is not None:
                pair = rms_norm(pair, (self.size,), eps=self.epsilon) * layer.head_norm
            pair = torch.view_as_complex(pair.float().unflatten(-1, (-1, 2))) * rotation
            pair = torch.view_as_real(pair).flatten(-2).to(x.dtype)
            stored = cache.write(index, reads, pair[:, self.heads :], projected[:, turned:])
            last = index == self.layers - 1
            attended = reads.attend(pair[:, : self.heads], *stored, scale, last).flatten(1)
            # What leading tokens are for ends with the keys and values of the last layer.
            x = x[: reads.count] if last else x
            x = _product(attended, layer.output, layer.output_bias, x)
            read = rms_norm(x, (width,), eps=self.epsilon)
            gate, up = _product(read, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            x = _product(silu(gate).mul_(up), layer.down, layer.down_bias, x)
        if self._plain_head is not None:
            return linear(rms_norm(x, (width,), self._norm, self.epsilon), self._plain_head)
        return _product(rms_norm(x, (width,), eps=self.epsilon), self._head, None)

    def _rotations(self, columns: int) -> Tensor:
        """The rotary embedding of each position as complex numbers, [columns, size / 2]."""
        if len(self._rotation) < columns:
            device = self._embedding.device
            like = torch.zeros(1, device=device)
            cos, sin = self.model.model.rotary_emb(like, torch.arange(columns, device=device)[None])
            half = self.size // 2
            self._rotation = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())
        return self._rotation


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()


def _columns(weights: Sequence[Tensor], scale: Tensor | None, into: list[Tensor] | None) -> list[Tensor]:
    """Lay out weights [out, in] side by side as [in, out], times a factor a row, cut into blocks of columns.

    A block of a large weight fits into the cache while it is multiplied. The memory of the ones before is used
    again: to get so much anew costs more than to fill it.
    """
    weight = torch.cat(list(weights)) if len(weights) > 1 else weights[0]
    size = _BLOCK_COLUMNS if weight.numel() > _LARGE_WEIGHT else len(weight)
    parts = weight.split(size)
    if into is None or into[0].dtype != weight.dtype:
        into = [part.new_empty(part.shape[1], len(part)) for part in parts]
    for block, part in zip(into, parts):
        block.copy_(part.t())
        if scale is not None:
            block.mul_(scale[:, None])
    return into


def _product(x: Tensor, blocks: list[Tensor], bias: Tensor | None, added: Tensor | None = None) -> Tensor:
    """`added + x @ weight + bias`."""
    if len(blocks) == 1:
        result = torch.mm(x, blocks[0]) if added is None else torch.addmm(added, x, blocks[0])
    else:
        result = x.new_empty(len(x), sum(block.shape[1] for block in blocks))
        start = 0
        for block in blocks:
            columns = slice(start, start + block.shape[1])
            if added is None:
                torch.mm(x, block, out=result[:, columns])
            else:
                torch.addmm(added[:, columns], x, block, out=result[:, columns])
            start += block.shape[1]
    return result if bias is None else result.add_(bias)


@torch.inference_mode()
def make_decoder(model: Any, context: int) -> Decoder | None:
    """Return the fastest decoder whose logits are those of the model's own forward; None when none has them.

    Args:
        model: A Hugging Face causal language model.
        context: Tokens of a conversation at most: a sliding window that is longer does not matter.
    """
    if not attends_fully(model.config, context):
        return None
    for kind in (FusedDecoder, ModelDecoder):
        try:
            decoder: Decoder = kind(model)
            if _agrees(decoder, model):
                return decoder
        except (ValueError, TypeError, AttributeError, KeyError, RuntimeError, IndexError):
            # Whatever is in the way of running somebody's model in our way: its own forward runs it.
            continue
    return None


def _agrees(decoder: Decoder, model: Any) -> bool:
    """Compare with the model's own forward: two rows, prompts of different lengths, then some more tokens."""
    parameter = next(model.parameters())
    device, dtype = parameter.device, parameter.dtype
    vocabulary = model.get_input_embeddings().num_embeddings
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(vocabulary, (length,), generator=draw).tolist() for length in (9, 14)]
    cache = KeyValues(decoder.layers, 2, 16)
    first = Reads(
        [(texts[0][4], 4), (texts[1][6], 6)], [(0, 0, texts[0][:4]), (1, 0, texts[1][:6])], device, dtype
    )
    # The second pass reads one token of the one row and a block of the other.
    second = Reads([(texts[0][5], 5), (texts[1][13], 13)], [(1, 7, texts[1][7:13])], device, dtype)
    for reads, ends in ((first, (5, 7)), (second, (6, 14))):
        found = decoder.logits(reads, cache).float()
        for row, end in enumerate(ends):
            expected = model(input_ids=torch.tensor([texts[row][:end]], device=device)).logits[0, -1].float()
            allowed = TOLERANCE.get(dtype, 1e-3) * float(expected.abs().max())
            if found[row].shape != expected.shape or not bool((found[row] - expected).abs().max() <= allowed):
                return False
    return True


def attends_fully(config: Any, context: int) -> bool:
    """Return whether every layer of a model sees all of a context of that many tokens."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if kinds == {"full_attention"} and getattr(config, "layer_types", None):
        return True
    return kinds <= {"full_attention", "sliding_attention"} and (window is None or window >= context)
