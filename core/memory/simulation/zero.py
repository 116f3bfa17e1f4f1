"""One of several processes that train under DeepSpeed's ZeRO-3, alone: the others are imagined.

Everything that allocates is DeepSpeed's own (0.19), through transformers and with the trainer's
configuration: parts made while the model is built, gathering and prefetching, buckets of
gradients, the update. Told that its accelerator is the meta device, it asks that for streams and
events, whose order is all that is kept: the recorder notes on which stream a buffer is allocated.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import deepspeed
import torch
import torch.distributed as group
from deepspeed.accelerator import real_accelerator
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from deepspeed.runtime.zero import partitioned_param_coordinator, stage3
from torch import Tensor
from torch.optim import adam
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

from core.memory.setup import Setup
from core.memory.simulation.kernels import as_on_cuda
from core.memory.simulation.recorder import Recorder
from core.memory.simulation.step import Log, Step, states_of
from core.training.sharding import loading_for, sharding_options

MICRO_BATCHES = 2  # of a step where gradients are accumulated
STEPS = 3
"""DeepSpeed notes in the first in which order weights are used, and fetches them ahead of that
from the next one on. The first also makes the optimiser's states."""


class _Stream:
    """Something to compute on; the first is the one that computes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def wait_stream(self, other: _Stream) -> None:
        """All is done already."""

    def synchronize(self) -> None:
        """All is done already."""


class _Event:
    """Something to wait for, which has happened."""

    def __init__(self, **options: Any) -> None:
        pass

    def record(self, stream: _Stream | None = None) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


class _Meta(CPU_Accelerator):  # type: ignore[misc]
    """The meta device as DeepSpeed sees a GPU: asynchronous, with streams."""

    Event = _Event

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._name, self._communication_backend_name = "meta", "fake"
        self._recorder = recorder
        self._streams = [_Stream(0)]

    def is_synchronized_device(self) -> bool:
        return False

    def device_name(self, device_index: int | None = None) -> str:
        return "meta"

    current_device_name = device_name

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def Stream(self, *arguments: Any, **options: Any) -> _Stream:
        self._streams.append(_Stream(len(self._streams)))
        return self._streams[-1]

    @contextmanager
    def stream(self, chosen: _Stream | None) -> Iterator[None]:
        before = self._recorder.stream
        self._recorder.stream = before if chosen is None else chosen.number
        yield
        self._recorder.stream = before

    def current_stream(self, device_index: int | None = None) -> _Stream:
        return self._streams[self._recorder.stream]

    def default_stream(self, device_index: int | None = None) -> _Stream:
        return self._streams[0]

    def on_accelerator(self, tensor: Tensor) -> bool:
        return bool(tensor.is_meta)

    def create_op_builder(self, class_name: str) -> None:
        """There are no kernels of its own to be built."""


@contextmanager
def as_deepspeed(recorder: Recorder) -> Iterator[None]:
    """DeepSpeed takes the meta device for its accelerator, and every step for a good one."""
    before = real_accelerator.ds_accelerator
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, RANK="0", LOCAL_RANK="0"))
        for owner, name, stand_in in (
            (Tensor, "record_stream", _nothing),
            (torch, "get_autocast_dtype", lambda device: torch.bfloat16),
            (partitioned_param_coordinator, "assert_ints_same_as_other_ranks", _nothing),
            (stage3, "is_invalid_grad_norm", lambda norm: False),
            (adam, "_device_dtype_check_for_fused", _nothing),
        ):
            stack.enter_context(patch.object(owner, name, stand_in))
        stack.callback(real_accelerator.set_accelerator, before)
        real_accelerator.set_accelerator(_Meta(recorder))
        yield


def _nothing(*arguments: Any, **options: Any) -> None:
    """Nothing is compared with who is not there, and nobody waits."""


class ZeroStep(Step):
    """As `Step`, with the model in parts from the first, and DeepSpeed's engine around it."""

    def record(self) -> Log:
        """Load, then some steps with all labels, and with few."""
        recorder = self._recorder
        stages = []
        with as_on_cuda(), as_deepspeed(recorder):
            with recorder.purpose("workspace"), recorder, loading_for("zero3", torch.bfloat16):
                self._load()
            self._settings = settings(self._model, self._setup)
            with recorder.purpose("workspace"), recorder:
                self._engine, self._zero, *_ = deepspeed.initialize(
                    model=self._model,
                    optimizer=optimizer(self._model, self._setup.optimizer),
                    config=self._settings.config,
                    dist_init_required=False,
                )
            self._called = self._engine
            self._hold_workspaces()
            self._name()
            stages.append(self._taken())
            for labelled in self._label_counts():
                self._answers.labelled = labelled
                for _ in range(STEPS):
                    with recorder:
                        self._micro_batches()
                    self._name()
                    stages.append(self._taken())
        return Log(stages, recorder.phases, recorder.streams)

    def _name(self) -> None:
        """Say what everything is for that outlives a step."""
        for tensor, purpose in self._held():
            self._recorder.rename(tensor, purpose)
            if hasattr(tensor, "ds_tensor"):
                self._recorder.rename(tensor.ds_tensor, purpose)
        for part in self._zero.fp32_partitioned_groups_flat:
            self._recorder.rename(part, "optimizer")
        for states in self._zero.optimizer.state.values():
            for state in states.values():
                if isinstance(state, Tensor):
                    self._recorder.rename(state, "optimizer")
        self._recorder.rename(self._zero.grad_partitions_flat_buffer, "gradients")

    def _micro_batches(self) -> None:
        """As accelerate calls the engine: it clips and updates by itself."""
        for last in (False, True) if self._setup.accumulates else (True,):
            self._engine.set_gradient_accumulation_boundary(is_boundary=last)
            self._forward_and_backward()
            self._recorder.phase = "gradients"
            self._engine.step()
            self._recorder.phase = "activations"

    def _backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)


class _States(torch.optim.Optimizer):  # type: ignore[misc]
    """An optimiser that makes its states at the first update, as bitsandbytes does."""

    def __init__(self, trained: list[Tensor], name: str) -> None:
        super().__init__(trained, {})
        self._name = name

    def step(self, closure: Any = None) -> None:
        for parts in self.param_groups:
            for part in parts["params"]:
                if part.grad is not None and part not in self.state:
                    self.state[part] = dict(enumerate(states_of(part, self._name)))


def optimizer(model: Any, name: str) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, fused=True) if name == "adamw" else _States(trained, name)


def settings(model: Any, setup: Setup) -> Any:
    """The trainer's settings, with what transformers and accelerate make of them."""
    chosen = sharding_options("zero3", checkpointing=False, precision="bf16")["deepspeed"]
    found = HfTrainerDeepSpeedConfig({**chosen, "zero_allow_untested_optimizer": True})
    arguments = SimpleNamespace(
        world_size=group.get_world_size(),
        per_device_train_batch_size=setup.micro_batch,
        gradient_accumulation_steps=MICRO_BATCHES if setup.accumulates else 1,
        max_grad_norm=1.0,
        learning_rate=1e-4,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        weight_decay=0.0,
        save_on_each_node=False,
        fp16=False,
        fp16_full_eval=False,
        bf16=True,
        bf16_full_eval=False,
        get_warmup_steps=lambda steps: 0,
    )
    found.trainer_config_process(arguments)
    found.trainer_config_finalize(arguments, model, 1)
    return found
