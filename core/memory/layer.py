"""One decoder layer, operation by operation: what each keeps for the backward pass, per token,
and what is alive beside it while it runs forwards and backwards.

Derived from the tensors that each operation saves as transformers writes it: a norm keeps its
input in float32, attention the rotated heads and its output, the gated MLP its three products.
Tensors are 16-bit where nothing else is said. One test counts what autograd really keeps, for
every architecture of the presets and every method; another holds the peaks to the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

from core.memory.costs import Cost, Layer, Operation, layer_of
from core.memory.linear import LinearCost, linear_cost
from core.methods import METHODS, Bits, MethodName
from core.models.catalogue import ModelShape
from core.models.families import FUSED, Linear, linears, packed_bits

WRITTEN_OUT_ATTENTION = {
    "bloom": (6.0, 6.0), "falcon": (4.0, 8.0), "gemma2": (8.0, 8.0), "gpt_oss": (2.0, 2.0),
}  # fmt: skip
"""Bytes per head and pair of tokens, where no fused attention is used: probabilities that are kept,
and their gradients."""
OUTPUT_COPIED = FUSED | {"bloom", "gemma2", "gpt_oss"}
"""Where attention's output is laid out anew, so that the next linear keeps its own input."""
NORMED_AFTER = ("gemma2", "gemma3_text")
HEADS_NORMED = ("qwen3", "qwen3_moe", "gemma3_text")
WIDE_NORMS = ("gemma2", "gemma3_text", "olmo2")
PARALLEL = ("phi", "falcon")  # attention and MLP read the same norm's output


@dataclass(slots=True)
class _Builder:
    """Collects the operations of one layer. Bytes per token; `h`, `q` and `k` are the widths of
    the model, of all query heads and of all key heads."""

    shape: ModelShape
    method: MethodName
    bits: Bits
    rank: int
    adapted: frozenset[str]
    dropout: bool
    masked: bool = False
    inputs_kept: bool = False
    operations: list[Operation] = field(default_factory=list)

    @property
    def trained(self) -> bool:
        """Whether the layer's own weights learn."""
        return METHODS[self.method].kind == "weights"

    @property
    def h(self) -> int:
        return self.shape.hidden

    @property
    def q(self) -> int:
        return self.shape.heads * self.shape.head_dim

    @property
    def k(self) -> int:
        return self.shape.kv_heads * self.shape.head_dim

    def add(
        self,
        saved: float,
        forward: float,
        backward: float,
        squared: float = 0.0,
        undone: float = 0.0,
    ) -> None:
        self.operations.append(
            Operation(Cost(saved), (Cost(saved + forward),), (Cost(backward),), squared, undone)
        )

    def cost(self, linear: Linear) -> LinearCost:
        found = linear_cost(
            linear,
            self.method,
            self.bits,
            self.rank,
            trained=linear.role in self.adapted or self.trained,
            dropout=self.dropout,
            packed=packed_bits(self.shape, self.bits),
        )
        return replace(found, keeps_input=found.keeps_input or self.inputs_kept)

    def linears(
        self, group: list[Linear], *, live: float, pending: float, held: bool = False
    ) -> None:
        """Linears that read one input. `live` is alive beside it while the first of them runs
        forwards, `pending` are the gradients that wait while they are undone; `held`: the input
        is kept by what made it."""
        width = group[0].inputs
        costs = [self.cost(each) for each in group]
        keeps = 2 * width if any(cost.keeps_input for cost in costs) and not held else 0
        before, first = live + (0 if keeps else 2 * width), True
        waiting = pending
        for linear, cost in zip(group, costs, strict=True):
            own = Cost(keeps) if first else Cost()
            later = sum(2 * each.outputs for each in group[: group.index(linear)])
            self.operations.append(
                Operation(
                    cost.saved + own,
                    tuple(each + own + Cost(before) for each in cost.forward),
                    _undone(cost, own, Cost(waiting + later)),
                    escapes=cost.escapes or (2 * width if self.bits == 8 and first else 0.0),
                )
            )
            before += 2 * linear.outputs
            if len(group) > 1:
                waiting = pending + 2 * width  # the sum of the input's gradients
            first = False


@cache
def decoder_layer(
    shape: ModelShape,
    method: MethodName,
    bits: Bits,
    rank: int,
    adapted: tuple[Linear, ...],
    dropout: bool = False,
    masked: bool = False,
    inputs_kept: bool = False,
) -> Layer:
    """The layer as `method` trains it on a base of so many bits; `dropout` is the adapters'.
    `masked`: a prefix, or a window that the row is longer than, keeps attention from its fastest
    kernel. `inputs_kept`: frozen linears keep theirs too."""
    roles = frozenset(linear.role for linear in adapted)
    builder = _Builder(shape, method, bits, rank, roles, dropout, masked, inputs_kept)
    _norm(builder, after=False)
    _attention(builder)
    if shape.model_type in NORMED_AFTER:
        _norm(builder, after=True)
    if shape.model_type not in PARALLEL:
        _norm(builder, after=shape.model_type == "olmo2")
    _mlp(builder)
    if shape.model_type in NORMED_AFTER:
        _norm(builder, after=True)
    return layer_of(builder.operations)


def _norm(builder: _Builder, *, after: bool) -> None:
    """RMS norms keep a float32 copy of their input and its mean; a trained one also what it
    scales, which Gemma and OLMo scale in float32."""
    h, kind = builder.h, builder.shape.model_type
    residual = 2 * h
    if kind in PARALLEL:  # one fused layer norm keeps its 16-bit input
        return builder.add(2 * h + 4, 2 * h, 8 * h)
    if kind == "bloom":
        return builder.add(2 * h + 4, 2 * h + residual, 8 * h)
    extra = _norm_size(builder) - 4
    builder.add((4 + extra) * h + 4, 8 * h + residual, 14 * h + residual)
    return None


def _norm_size(builder: _Builder) -> int:
    """Bytes an element."""
    wide = builder.shape.model_type in WIDE_NORMS
    return 4 + ((4 if wide else 2) if builder.trained else 0)


def _attention(builder: _Builder) -> None:
    shape, h, q, k = builder.shape, builder.h, builder.q, builder.k
    kind = shape.model_type
    every = linears(shape)
    builder.linears(
        [each for each in every if each.role in ("q", "k", "v", "qkv")],
        live=2 * h,
        pending=2 * h + (2 * h if kind in PARALLEL else 0),
    )
    each = _norm_size(builder)
    if kind in HEADS_NORMED:
        builder.add(
            each * (q + k) + 4 * (shape.heads + shape.kv_heads), 8 * q + 4 * k, 16 * q + 4 * k
        )
    elif kind == "olmo2":
        builder.add(each * (q + k) + 8, 8 * q + 4 * k, 16 * q + 4 * k)
    elif kind == "llama4_text":
        builder.add(4 * (2 * q + k), 8 * q, 12 * q)
    rotated = 0 if kind == "bloom" else 1
    builder.add(0, rotated * (10 * q + 4 * k) + 2 * h, rotated * (8 * q + 6 * k) + 2 * h)
    _core(builder)
    builder.linears(
        [each for each in every if each.role == "o"],
        live=2 * h,
        pending=2 * h,
        held=kind not in OUTPUT_COPIED,
    )


def _core(builder: _Builder) -> None:
    """Attention itself: rotated q and k, v, the output and the softmax's sums (flash-style). Its
    backward pass adds up dQ in float32, and dK and dV for every query head."""
    shape, q, k = builder.shape, builder.q, builder.k
    kind = shape.model_type
    squared, undone = (each * shape.heads for each in WRITTEN_OUT_ATTENTION.get(kind, (0.0, 0.0)))
    if kind == "bloom":
        saved = 2.0 * (q + 2 * k)  # one tensor of all three, read in place
    elif kind == "falcon":
        saved = 12 * q  # the one key head is repeated for every query head
    elif kind in ("gemma2", "gpt_oss"):
        saved = 6 * q + 8 * shape.heads
    elif builder.masked:
        saved, squared, undone = (
            8 * q + 4 * shape.heads,
            2.0,
            0.0,
        )  # heads repeated; a mask, kept as numbers
    else:
        fused = 2 * (q + k) if kind in FUSED else 0  # v is a view that keeps all of qkv
        saved = 4 * q + 4 * k + 4 * shape.heads + fused
    expanded = 4 * q if k != q else 0
    backward = 2 * q + 4 * q + 2 * q + 4 * k + expanded + 4 * shape.heads
    builder.add(saved, 2 * builder.h + 2 * q, 2 * builder.h + backward, squared, undone)


def _mlp(builder: _Builder) -> None:
    """The MLP's linears and the products between them."""
    shape, h, width = builder.shape, builder.h, builder.shape.intermediate
    kind = shape.model_type
    every = {each.role: each for each in linears(shape)}
    if shape.experts:
        _experts(builder)
    if "up" not in every and "gate_up" not in every:
        return
    residual = 2 * h
    if "gate" in every:
        _gated(builder, every["gate"], every["up"])
    elif "gate_up" in every:
        builder.linears([every["gate_up"]], live=residual, pending=residual)
        # both halves are views of one tensor, whose gradient is put together of theirs
        builder.add(6 * width, residual + 2 * width, residual + 6 * width)
    else:
        builder.linears([every["up"]], live=residual, pending=residual)
        written_out = kind == "phi"  # a GELU written out in Python keeps four intermediates
        saved, undone = (8 * width, 6 * width) if written_out else (2 * width, 4 * width)
        builder.add(saved, residual + 4 * width, residual + undone)
    builder.linears([every["down"]], live=residual, pending=0)


def _gated(builder: _Builder, gate: Linear, up: Linear) -> None:
    """gate, its SiLU, up, their product, in the order of Llama's MLP."""
    h, width = builder.h, builder.shape.intermediate
    residual = 2 * h
    first, second = builder.cost(gate), builder.cost(up)
    keeps = 2 * h if first.keeps_input or second.keeps_input else 0
    read = 0 if keeps else 2 * h
    own, beside = Cost(keeps), Cost(residual + read)
    builder.operations.append(
        Operation(
            first.saved + own,
            tuple(each + own + beside for each in first.forward),
            _undone(first, own, Cost(residual + 2 * h)),
            escapes=2 * h if builder.bits == 8 else 0.0,
        )
    )
    builder.add(2 * width, residual + read + 2 * width, residual + 2 * h + 4 * width)
    builder.operations.append(
        Operation(
            second.saved,
            tuple(each + beside + Cost(2 * width) for each in second.forward),
            _undone(second, Cost(), Cost(residual + 2 * width)),
        )
    )
    builder.add(4 * width, residual + 2 * width, residual + 6 * width)


def _undone(cost: LinearCost, own: Cost, waiting: Cost) -> tuple[Cost, ...]:
    """A linear's backward pass: first the adapter's, then, without what that has kept (and the
    input that was kept with it, `own`), the base's."""
    gone = Cost() - cost.saved - own
    return (
        *(each + waiting for each in cost.backward),
        *(each + waiting + gone for each in cost.afterwards),
    )


def _experts(builder: _Builder) -> None:
    """The chosen experts' products and weighted outputs; Llama 4 runs every token through all."""
    shape, h = builder.shape, builder.h
    width, count = shape.expert_width or shape.intermediate, shape.experts or 0
    trained = builder.trained
    active = shape.active_experts or 1
    if shape.model_type == "llama4_text":
        saved = count * (8 * width + 2 * h if trained else 6 * width) + 5 * h
        return builder.add(saved, 2 * h, 2 * h + 6 * count * width)
    each = 8 * width + 4 * h if trained else 6 * width + 2 * h
    if shape.model_type == "gpt_oss":
        each += 6 * width + (2 * h if trained else 0)  # its gate is clamped and written out
    saved = active * each + (2 * h if trained else 0) + 8 * count + 64
    builder.add(saved, 2 * h + 2 * active * h, 4 * h + active * (6 * width + 2 * h))
    return None
