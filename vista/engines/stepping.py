"""One token further for every row of a batch: by a model's own forward, or by the operations that it needs.

For ``vista.engines.hf``. With a tiny model and few rows, a step on a CPU spends most of its time between the
operations: in transformers' modules, wrappers and masks. ``Bare`` calls only the operations, on the same
numbers in the same order, so its logits are the same bytes (``tests/engines/test_stepping.py``). It knows the
text decoders of Qwen2's kind, which nano models have; any other model, device or type has its own forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.models.internvl.modeling_internvl import InternVLForConditionalGeneration
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextModel,
)

# Models whose logits are those of their decoder's last hidden states, and the decoders that are known.
MODELS = (InternVLForConditionalGeneration, Qwen2_5_VLForConditionalGeneration)
DECODERS = (Qwen2Model, Qwen2_5_VLTextModel)

# From tokens [rows], positions [..., rows, 1], the cache and its mask to the next logits [rows, vocabulary].
Step = Callable[[torch.Tensor, torch.Tensor, DynamicCache, torch.Tensor | None], torch.Tensor]


def step_of(model: Any) -> Step:
    """How a model is taken one token further."""
    return Bare(model) if _is_known(model) else Whole(model)


def _is_known(model: Any) -> bool:
    """Whether ``Bare`` computes what a model's own ``forward`` does."""
    if type(model) not in MODELS or type(decoder := model.get_decoder()) not in DECODERS:
        return False
    config, weights = decoder.config, [*decoder.parameters()]
    linear = [layer for layer in decoder.modules() if isinstance(layer, torch.nn.Linear)]
    return (
        all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights)
        and all(type(layer) is torch.nn.Linear for layer in (*linear, model.get_output_embeddings()))
        and config._attn_implementation == "sdpa"
        and config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] == "default"
        and set(config.layer_types) == {"full_attention"}
        and not any(map(_is_changed, (model, *decoder.modules())))
    )


def _is_changed(module: torch.nn.Module) -> bool:
    """Whether something else than its class's ``forward`` runs when a module is called."""
    return bool("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)


class Whole:
    """A step through the model's own ``forward``.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: DynamicCache, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """See ``Step``."""
        output = self.model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


class Bare:
    """A step by the operations alone, for the models that ``step_of`` gives it.

    Args:
        model: In evaluation mode; its weights stay as they are.
    """

    @torch.no_grad()
    def __init__(self, model: Any) -> None:
        self.whole = Whole(model)
        self.decoder = model.get_decoder()
        self.head = model.get_output_embeddings().weight
        self.layers = [_Layer(layer) for layer in self.decoder.layers]
        self.norm = self.decoder.norm
        self._cos = self._sin = torch.empty(0, 0)

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: DynamicCache, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """See ``Step``; a mask is left to the model's own ``forward``."""
        if mask is not None:
            return self.whole(tokens, positions, cache, mask)
        # After the prompt, all dimensions of a position are equal; the last one is there in every family.
        places = positions.reshape(-1, len(tokens))[-1]
        cos, sin = self._rotation(places)
        hidden = functional.embedding(tokens, self.decoder.embed_tokens.weight)
        for layer, kept in zip(self.layers, cache.layers, strict=True):
            hidden = layer(hidden, cos, sin, kept)
        return functional.linear(_normed(hidden, self.norm), self.head)

    def _rotation(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine [rows, 1, width] of positions, the first half of the sines negated."""
        if (needed := int(places.max()) + 1) > len(self._cos):
            every = torch.arange(max(needed, 2 * len(self._cos)))[None]
            cos, sin = self.decoder.rotary_emb(self.head, every)
            half = sin.shape[-1] // 2
            self._cos, self._sin = cos.reshape(-1, 2 * half), sin.reshape(-1, 2 * half).clone()
            self._sin[:, :half].neg_()
        return self._cos[places][:, None], self._sin[places][:, None]


class _Layer:
    """One layer of the decoder."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.before, self.after = layer.input_layernorm, layer.post_attention_layernorm
        # One product in place of three: a column of a product does not depend on the others.
        self.weight = torch.cat([part.weight for part in parts])
        self.bias = torch.cat([part.bias for part in parts])
        self.out, self.scaling, self.width = attention.o_proj.weight, attention.scaling, attention.head_dim
        self.keys = attention.k_proj.out_features // self.width
        self.queries = attention.q_proj.out_features // self.width
        self.gate, self.up, self.down = mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight

    def __call__(
        self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, kept: DynamicLayer
    ) -> torch.Tensor:
        """[rows, width] of the hidden states after the layer; ``kept`` gets the new keys and values."""
        rows, half = len(hidden), self.width // 2
        heads = functional.linear(_normed(hidden, self.before), self.weight, self.bias)
        heads = heads.view(rows, -1, 1, self.width)
        turned = self.queries + self.keys
        straight = heads[:, :turned, 0]
        # As transformers' ``rotate_half``, whose sign is in the sines.
        crossed = torch.cat((straight[..., half:], straight[..., :half]), -1).mul_(sin)
        rotated = (straight * cos).add_(crossed)[:, :, None]
        keys, values = kept.update(rotated[:, self.queries :], heads[:, turned:])
        attended = functional.scaled_dot_product_attention(
            rotated[:, : self.queries], keys, values, scale=self.scaling, enable_gqa=self.queries != self.keys
        )
        hidden = functional.linear(attended.reshape(rows, -1), self.out).add_(hidden)
        normed = _normed(hidden, self.after)
        gated = functional.silu(functional.linear(normed, self.gate), inplace=True)
        gated.mul_(functional.linear(normed, self.up))
        return functional.linear(gated, self.down).add_(hidden)


def _normed(hidden: torch.Tensor, norm: Any) -> torch.Tensor:
    """As transformers' ``Qwen2RMSNorm``."""
    scale = hidden.pow(2).mean(-1, keepdim=True).add_(norm.variance_epsilon).rsqrt_()
    return (hidden * scale).mul_(norm.weight)
