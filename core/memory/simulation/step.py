"""One training step on the meta device, as the worker makes it, and its log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, add_fused_lm_head

from core.memory.prediction import CUBLAS_WORKSPACES
from core.memory.setup import FUSED_FROM_LOGITS, Setup
from core.memory.simulation.allocator import Event
from core.memory.simulation.kernels import Answers, as_on_cuda, composites
from core.memory.simulation.model import build, tensors
from core.memory.simulation.recorder import Recorder, local
from core.memory.simulation.together import nothing_reduced, on_meta, wrapped
from core.methods import METHODS
from core.training.loss import labelled_loss_rows, labelled_loss_sum

SMALLEST_8BIT = 4096  # elements; bitsandbytes keeps smaller tensors' states in float32
SMALLEST_PAGED = 100_000
STATE_BLOCK = 256
WHOLE_LOGITS_BYTES = 14


@dataclass(slots=True)
class Log:
    """What a training allocates, one stage after the other: the model is loaded, a step without
    and a step with the optimiser's states, which are balanced. `purposes` says what each key is
    for, `streams` on which of CUDA's streams it is allocated, where that is not the one that
    computes. `warm_up` bytes are allocated, and given back, before all else."""

    stages: list[list[Event]] = field(default_factory=list)
    purposes: dict[int, str] = field(default_factory=dict)
    streams: dict[int, int] = field(default_factory=dict)
    warm_up: int = 0


class Step:
    """One model under a recorder; where several processes train it, in `together.processes`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._workspaces: list[Tensor] = []
        self._answers = Answers()
        self._recorder = Recorder(self._answers.replacements(), composites())

    def record(self) -> Log:
        """Hold what is there, then step: forward, backward, clipping."""
        recorder = self._recorder
        self._load()
        self._hold()
        held = self._taken()
        kept = optimizer_states(self._model, self._setup.optimizer)
        for state in kept:
            recorder.hold(state, "optimizer")
        states = self._taken()
        with as_on_cuda(), on_meta(recorder), recorder:
            for labelled in self._label_counts():
                self._answers.labelled = labelled
                self._micro_batches()
        self._model.zero_grad(set_to_none=True)
        step = self._taken()
        _balance(step)
        # transformers warms the allocator up before it loads
        weights = sum(size for key, size in held if recorder.phases[key] == "weights")
        return Log([held, step, states, step], recorder.phases, recorder.streams, weights)

    def _load(self) -> None:
        self._model = build(self._setup)
        self._base = without_adapter(self._model)
        add_fused_lm_head(self._base, outputs=("log_probs", "entropy", "is_top1"))
        self._vocabulary: int = self._model.config.get_text_config().vocab_size

    def _hold(self) -> None:
        """The model as it is loaded, then what several processes make of it. A base in 4 bits is
        on the GPU before it is split; one in 16 is split in RAM."""
        if not self._setup.in_parts or self._setup.base_bits < 16:
            for tensor, purpose in sorted(self._held(), key=lambda pair: pair[1] != "weights"):
                self._recorder.hold(tensor, purpose)
        self._called = wrapped(self._model, self._setup, self._recorder)
        for tensor, purpose in self._held():
            self._recorder.hold(tensor, purpose)
            self._recorder.rename(tensor, purpose)
        self._hold_workspaces()

    def _hold_workspaces(self) -> None:
        for _ in range(2):
            workspace = torch.empty(CUBLAS_WORKSPACES // 2, dtype=torch.uint8, device="meta")
            self._recorder.hold(workspace, "workspace")
            self._workspaces.append(workspace)

    def _held(self) -> list[tuple[Tensor, str]]:
        trains_adapter = METHODS[self._setup.method].has_adapter
        return [
            (tensor, "adapter" if trained and trains_adapter else "weights")
            for tensor, trained in tensors(self._model)
        ]

    def _taken(self) -> list[Event]:
        events, self._recorder.events = self._recorder.events, []
        return events

    def _label_counts(self) -> list[int | None]:
        """All tokens; and as many as have whole logits, where that takes more memory: a tied
        head's gradient is then a view, to which the engine cannot add the embedding's in place,
        and a head in parts is gathered as a layer is."""
        if self._setup.of_preferences:
            return [None]
        tokens = self._setup.rows * (self._setup.seq_length - 1)
        tile = 2 * min(tokens, TOKEN_CHUNK_SIZE) * _CHUNKED_LOGPROB_CHUNK_SIZE
        few = FUSED_FROM_LOGITS // self._vocabulary
        whole = WHOLE_LOGITS_BYTES * few * self._vocabulary
        tied = self._setup.shape.tied
        twice = tied if self._setup.method == "full" else self._setup.in_parts and not tied
        return [None, few] if 0 < few < tokens and (whole > tile or twice) else [None]

    def _micro_batches(self) -> None:
        if self._setup.accumulates:
            with nothing_reduced(self._called):
                self._forward_and_backward()
        self._forward_and_backward()
        for parameter in self._model.parameters():
            if parameter.grad is not None:
                self._recorder.rename(parameter.grad, "gradients")
        trained = [p for p in self._model.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(trained, 1.0)
        self._model.zero_grad(set_to_none=True)

    def _forward_and_backward(self) -> None:
        recorder = self._recorder
        recorder.phase = "activations"
        shape = (self._setup.rows, self._setup.seq_length)
        ids = torch.empty(*shape, dtype=torch.int64, device="meta")
        labels = torch.empty_like(ids)
        with self._loss_told_apart():
            loss = self._loss(ids, labels)
            recorder.phase = "loss"
            self._backward(loss)
        recorder.phase = "activations"

    def _backward(self, loss: Tensor) -> None:
        loss.backward()

    @contextmanager
    def _loss_told_apart(self) -> Iterator[None]:
        """From the last layer's output to its gradient is the loss."""
        recorder = self._recorder

        def enter(module: nn.Module, inputs: Any, output: Any) -> None:
            recorder.phase = "loss"
            output.last_hidden_state.register_hook(leave)

        def leave(gradient: Tensor) -> None:
            recorder.phase = "workspace"

        handle = self._base.base_model.register_forward_hook(enter)
        try:
            yield
        finally:
            handle.remove()

    def _loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        """The trainer's choice: whole logits where they are few, and for preferences, whose
        reference is computed before; else TRL's fused head."""
        if self._setup.of_preferences:
            return labelled_loss_rows(self._called, ids, labels).sum()
        rows, length = ids.shape
        labelled = self._answers.labelled or rows * (length - 1)
        if labelled * self._vocabulary <= FUSED_FROM_LOGITS:
            return labelled_loss_sum(self._called, ids, labels) / ids.numel()
        found = self._called(input_ids=ids, labels=labels, fused_lm_head=True)
        total: Tensor = -found.log_probs.sum()
        return total / labels.numel()


def _balance(events: list[Event]) -> None:
    """What the step leaves behind (caches of a layer) goes, so that the step can be repeated."""
    left: dict[int, None] = {}
    for key, size in events:
        if size < 0:
            left.pop(key, None)
        else:
            left[key] = None
    events += [(key, -1) for key in left]


def without_adapter(model: Any) -> Any:
    """The transformers model in a peft model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def optimizer_states(model: nn.Module, optimizer: str) -> list[Tensor]:
    """The optimiser's states, as torch and bitsandbytes make them at the first update."""
    found: list[Tensor] = []
    embedded = _embeddings(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            found += states_of(local(parameter), optimizer, whole=id(parameter) in embedded)
    return found


def states_of(own: Tensor, optimizer: str, *, whole: bool = False) -> list[Tensor]:
    """Those of one parameter; `whole` ones stay in 32 bits. What is paged lies beside torch's
    memory."""
    if optimizer == "sgd" or (optimizer == "paged-adamw-8bit" and own.numel() >= SMALLEST_PAGED):
        return []
    if optimizer == "adamw":
        counter = torch.empty((), device="meta")  # of the fused kernel's steps
        return [torch.empty_like(own), torch.empty_like(own), counter]
    if whole or own.numel() < SMALLEST_8BIT:
        return [torch.empty_like(own, dtype=torch.float32) for _ in range(2)]
    return _eight_bit_states(own)


def _embeddings(model: nn.Module) -> set[int]:
    """transformers keeps the states of embeddings in 32 bits."""
    modules = (m for m in model.modules() if isinstance(m, nn.Embedding))
    return {id(parameter) for module in modules for parameter in module.parameters()}


def _eight_bit_states(parameter: Tensor) -> list[Tensor]:
    blocks = -(-parameter.numel() // STATE_BLOCK)
    states = [torch.empty_like(parameter, dtype=torch.uint8) for _ in range(2)]
    return states + [torch.empty(blocks, device="meta") for _ in range(2)]
