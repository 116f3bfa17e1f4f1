"""What one linear of a decoder layer keeps and needs, by how it is trained.

Read in the forward and backward passes of peft 0.21's layers and bitsandbytes 0.50's products,
tensor by tensor: `i` is the width in, `o` the width out, `w` the weights, all 16-bit where nothing
else is said; the adapters are float32 on a 16-bit base (`a` bytes each) and 16-bit on a packed one.
`forward` and `backward` hold the gradient of the output and everything up to that of the input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.memory.costs import NOTHING, Cost
from core.memory.trainable import oft_block, trained_bytes
from core.methods import Bits, MethodName
from core.models.families import Linear

LOW_RANK = ("lora", "qlora", "lora-8bit", "rslora", "pissa", "lora+")
SCALES = 4 / 64  # float32 scales while a 4-bit weight is unpacked, one for 64 weights
OFT_POWERS = 4  # square matrices that the Cayley series keeps for each block


@dataclass(frozen=True, slots=True)
class LinearCost:
    """`saved` leaves the 16-bit input out: with `keeps_input` it is kept as well, once for all
    linears that share it. `afterwards` is the base's turn in the backward pass, when what the
    adapter has saved is gone. `escapes`: per token, what checkpointing does not give back."""

    saved: Cost = NOTHING
    forward: tuple[Cost, ...] = ()
    backward: tuple[Cost, ...] = ()
    afterwards: tuple[Cost, ...] = ()
    keeps_input: bool = False
    escapes: float = 0.0


def linear_cost(
    linear: Linear,
    method: MethodName,
    bits: Bits,
    rank: int,
    *,
    trained: bool,
    dropout: bool,
    packed: Bits | None = None,
) -> LinearCost:
    """`trained`: whether this linear is adapted, or its own weights learn. `packed`: the bits it
    really takes, where they are not those that were asked for."""
    plain = _base(linear, packed or bits)
    if not trained:
        return plain
    if method in ("full", "last-layers"):
        return LinearCost(forward=plain.forward, backward=plain.afterwards, keeps_input=True)
    added = _adapter(linear, method, bits, rank, dropout=dropout)
    if method == "oft":  # the base comes last, so that it is undone first, with all still kept
        first = tuple(each - Cost(2 * linear.inputs) for each in plain.afterwards)
        return replace(
            added, forward=plain.forward + added.forward, backward=first + added.backward
        )
    return LinearCost(
        plain.saved + added.saved,
        plain.forward + added.forward,
        added.backward,
        plain.afterwards,
        plain.keeps_input or added.keeps_input,
        added.escapes,
    )


def _base(linear: Linear, bits: Bits) -> LinearCost:
    """A frozen linear keeps nothing; a packed one is unpacked, a weight at a time. LLM.int8 holds
    on to its input outside of what checkpointing can drop."""
    i, o, w = linear.inputs, linear.outputs, linear.weights
    if bits == 4:
        unpacked = 2 * w
        return LinearCost(
            forward=(Cost(2 * o, unpacked), Cost(0, unpacked + SCALES * w)),
            afterwards=(Cost(2 * o + 4 * i, unpacked), Cost(2 * o + 2 * i, unpacked + SCALES * w)),
        )
    if bits == 8:
        return LinearCost(
            forward=(Cost(i + 8 * o), Cost(2 * i + i + 3 * i)),
            afterwards=(Cost(2 * o + 4 * i, 2 * w),),
            keeps_input=True,
        )
    return LinearCost(forward=(Cost(2 * o),), afterwards=(Cost(2 * o + 2 * i),))


def _adapter(
    linear: Linear, method: MethodName, bits: Bits, rank: int, *, dropout: bool
) -> LinearCost:
    a = trained_bytes(method, bits)
    if method in LOW_RANK:
        return _lora(linear, a, rank, dropout=dropout)
    if method == "dora":
        return _dora(linear, bits, rank, dropout=dropout)
    if method == "vera":
        return _vera(linear, a, rank)
    if method == "adalora":
        return _adalora(linear, a, rank, dropout=dropout)
    if method == "ia3":
        return _ia3(linear, bits)
    if method == "oft":
        return _oft(linear, a, bits)
    if method in ("loha", "lokr"):
        return _whole_update(linear, method)
    return LinearCost()  # soft prompts leave the linears as they are


def _lora(linear: Linear, a: int, rank: int, *, dropout: bool) -> LinearCost:
    """Input (a copy where float32, or dropped out, with its mask) and A's output are kept; B's
    output, its scaled copy and the sum pass by."""
    i, o = linear.inputs, linear.outputs
    saved = a * rank + ((a + 1) * i if dropout else a * i if a == 4 else 0)
    passing = 2 * o + 2 * a * o
    return LinearCost(
        Cost(saved),
        (Cost(saved + passing),),
        (Cost(passing), Cost(2 * o + a * i + a * rank)),
        keeps_input=a == 2 and not dropout,
    )


def _dora(linear: Linear, bits: Bits, rank: int, *, dropout: bool) -> LinearCost:
    """The update is multiplied out for its norm, through an identity matrix; the base's output
    and the update's are kept for the magnitude's gradient."""
    i, o, w = linear.inputs, linear.outputs, linear.weights
    a = 4 if bits == 16 else 2
    copied = (a + 1) * i if dropout else a * i if a == 4 else 0
    saved = copied + a * rank + (2 + a) * o
    held = 2 * a * w + a * i * i  # both weights, the identity
    return LinearCost(
        Cost(saved),
        (Cost(2 * o + copied, held + 2 * a * w), Cost(saved + 12 * o, held)),
        (Cost(18 * o),),
        keeps_input=a == 2 and not dropout,
    )


def _vera(linear: Linear, a: int, rank: int) -> LinearCost:
    """A and B are frozen, so no input is kept, but what either vector scales."""
    i, o = linear.inputs, linear.outputs
    saved = a * rank + a * o
    return LinearCost(
        Cost(saved),
        (Cost(saved + (4 * i if a == 4 else 0) + 2 * o + 2 * a * o),),
        (Cost(2 * o + 3 * a * o), Cost(2 * o + a * i)),
    )


def _adalora(linear: Linear, a: int, rank: int, *, dropout: bool) -> LinearCost:
    """As LoRA, at the rank it begins with and with E·A multiplied out."""
    i, o, r = linear.inputs, linear.outputs, rank + rank // 2
    copied = (a + 1) * i if dropout else a * i if a == 4 else 0
    saved = Cost(copied + a * r, a * r * i)
    cast = 0 if a == 4 else 2 * o  # what is divided by a float32 number is float32 for a while
    return LinearCost(
        saved,
        (Cost(10 * o + cast) + saved,),
        (Cost(10 * o + cast), Cost(2 * o + a * i)),
        keeps_input=a == 2 and not dropout,
    )


def _ia3(linear: Linear, bits: Bits) -> LinearCost:
    """Scaled in float32: the input of the MLP's last linear, the output of the others. LLM.int8
    is given float32 then, and holds on to that."""
    i, o = linear.inputs, linear.outputs
    if linear.role == "down":
        kept = 6 if bits == 8 else 4
        escapes = 4.0 * i if bits == 8 else 0.0
        forward, backward = (Cost((6 + kept) * i),), (Cost(12 * i),)
        return LinearCost(Cost(kept * i), forward, backward, escapes=escapes)
    kept, escapes = (4 * i + 4 * o, 4.0 * i) if bits == 8 else (2 * o, 0.0)
    return LinearCost(Cost(kept), (Cost(kept + 6 * o),), (Cost(10 * o),), escapes=escapes)


def _oft(linear: Linear, a: int, bits: Bits) -> LinearCost:
    """The input is rotated block by block, in the adapter's type. LLM.int8 holds on to what comes
    of that."""
    i = linear.inputs
    kept = (a * i if a == 4 else 0) + (2 * i if bits == 8 else 0)
    series = Cost(0, OFT_POWERS * a * oft_block(i) * i)
    return LinearCost(
        Cost(kept) + series,
        (Cost(kept + 2 * a * i) + series,),
        (Cost(2 * i + 2 * a * i),),
        keeps_input=a == 2,
        escapes=2.0 * i if bits == 8 else 0.0,
    )


def _whole_update(linear: Linear, method: MethodName) -> LinearCost:
    """LoHa and LoKr multiply the update out to the size of the weight, in float32, and keep it."""
    i, o, w = linear.inputs, linear.outputs, linear.weights
    while_made = 12 * w if method == "loha" else 8 * w
    undone = 16 * w if method == "loha" else 12 * w
    return LinearCost(
        Cost(4 * i, 4 * w),
        (Cost(2 * o, while_made), Cost(4 * i + 10 * o, 4 * w)),
        (Cost(2 * o + 2 * i, undone - 4 * w), Cost(6 * o + 4 * i, 4 * w)),
    )
