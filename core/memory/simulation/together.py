"""One of several processes that train together, alone: the others are imagined.

What is wrapped is wrapped by the libraries that the trainer goes through: DistributedDataParallel
with its buckets, or accelerate's `fsdp2_prepare_model` with torch's own `fully_shard`. The process
group is torch's fake one, whose collectives do nothing; this process has the first rank, whose
shards are the fullest. On the meta device FSDP's gathered weights are freed by making their storage
empty, which the recorder is told, and so is the stream that a buffer is allocated on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as group
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard import _fsdp_param, _fully_shard
from torch.distributed.fsdp._fully_shard._fsdp_api import AllGather, ReduceScatter
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.nn.parallel import DistributedDataParallel, distributed
from torch.utils._python_dispatch import _disable_current_modes

from core.memory.setup import Setup
from core.memory.simulation.recorder import Recorder

GATHERING, REDUCING = 1, 2
"""FSDP2's own streams, beside the one that computes (0)."""


@contextmanager
def processes(setup: Setup) -> Iterator[None]:
    """While this lasts, the process is the first of `setup.gpus`."""
    if setup.gpus == 1:
        yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore

    hook = sys.excepthook
    group.init_process_group("fake", store=FakeStore(), rank=0, world_size=setup.gpus)
    try:
        yield
    finally:
        group.destroy_process_group()
        sys.excepthook = hook  # the group's own puts its rank before every line


def wrapped(model: Any, setup: Setup, recorder: Recorder) -> Any:
    """The model as one of several processes calls it. What that allocates on the GPU is recorded;
    a base in 16 bits is split in RAM."""
    if setup.gpus == 1:
        return model
    if not setup.in_parts:
        with recorder.purpose("workspace"), recorder:
            return _copied(model)
    mesh = init_device_mesh("cpu", (setup.gpus,), mesh_dim_names=("shard",))
    with recorder if setup.base_bits < 16 else nullcontext():
        return _in_parts(model, mesh, recorder)


@contextmanager
def nothing_reduced(model: Any) -> Iterator[None]:
    """For a micro-batch that is not the last of its step, as accelerate's `no_sync` has it; where
    a model is in parts, gradients are always reduced."""
    with model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext():
        yield


def _copied(model: Any) -> Any:
    with ExitStack() as stack:
        for name in ("_verify_param_shape_across_processes", "_sync_module_states"):
            stack.enter_context(patch.object(distributed, name, _none))
        # as the trainer asks for beside an adapter; the buckets then stay as they are at first
        made = DistributedDataParallel(model, find_unused_parameters=True)
    made.register_comm_hook(None, lambda state, bucket: _sent(bucket.buffer()))
    return made


def _none(*arguments: Any, **options: Any) -> None:
    """Nothing is compared with, and nothing sent to, who is not there."""


def _sent(buffer: Tensor) -> Any:
    future: Any = torch.futures.Future()
    future.set_result(buffer)
    return future


def _in_parts(model: Any, mesh: DeviceMesh, recorder: Recorder) -> Any:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    from core.training.sharding import sharding_options

    chosen = sharding_options("fsdp", checkpointing=False, precision="bf16")
    options = dict(chosen["fsdp_config"])
    options["fsdp_version"] = options.pop("version")
    options["cpu_ram_efficient_loading"] = False  # there are no weights to load
    plugin = FullyShardedDataParallelPlugin(**options)
    plugin.set_auto_wrap_policy(model)
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision="no",  # as the trainer has it: the weights are in 16 bits already
        is_main_process=False,
        torch_device_mesh=mesh,
        parallelism_config=SimpleNamespace(fsdp_dim_names=mesh.mesh_dim_names),
        device=torch.device("meta"),
    )
    with on_meta(recorder):
        parts: Any = fsdp2_prepare_model(accelerator, model)
    for module in parts.modules():
        if isinstance(module, FSDPModule):
            module.set_custom_all_gather(_Gather(recorder))
            module.set_custom_reduce_scatter(_Reduce(recorder))
    return parts


@contextmanager
def on_meta(recorder: Recorder) -> Iterator[None]:
    """FSDP2 takes the meta device for one to train on, with the CPU's streams, which do nothing;
    and what DTensor works out of shapes on the side is not recorded."""
    meta = torch.device("meta")
    shapes = ShardingPropagator._propagate_tensor_meta_non_cached

    def aside(propagator: ShardingPropagator, operation: Any) -> Any:
        with _disable_current_modes():
            return shapes(propagator, operation)

    with ExitStack() as stack:
        for owner, name, stand_in in (
            (torch, "meta", torch.cpu),
            (_fully_shard, "_get_device_from_mesh", lambda mesh: meta),
            (FSDPParamGroup, "_validate_no_meta_params", lambda parameters: None),
            (ShardingPropagator, "_propagate_tensor_meta_non_cached", aside),
            (_fsdp_param, "alloc_storage", partial(_filled, recorder)),
            (_fsdp_param, "free_storage", partial(_emptied, recorder)),
        ):
            stack.enter_context(patch.object(owner, name, stand_in, create=name == "meta"))
        yield


def _filled(recorder: Recorder, tensor: Tensor) -> None:
    storage, size = tensor.untyped_storage(), tensor.numel() * tensor.itemsize
    if storage.size() != size:
        storage.resize_(size)
        recorder.hold(tensor, "workspace")
    else:
        recorder.rename(tensor, "workspace")


def _emptied(recorder: Recorder, tensor: Tensor) -> None:
    recorder.release(tensor)
    tensor.untyped_storage().resize_(0)


class _Gather(AllGather):  # type: ignore[misc]
    """Into one buffer, on a stream of its own."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def allocate(self, size: Sequence[Any], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        buffer = torch.empty(*size, dtype=dtype, device=device)
        self._recorder.rename(buffer, "workspace", GATHERING)
        return buffer

    def __call__(self, *arguments: Any, **options: Any) -> None:
        """Nothing is sent."""


class _Reduce(ReduceScatter):  # type: ignore[misc]
    """What is sent is allocated where the model is computed, what comes back on a stream of its
    own: the gradients."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._sends = False

    def allocate(self, size: Sequence[Any], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        self._sends = not self._sends
        buffer = torch.empty(*size, dtype=dtype, device=device)
        if self._sends:
            self._recorder.rename(buffer, "workspace")
        else:
            self._recorder.rename(buffer, "gradients", REDUCING)
        return buffer

    def __call__(self, *arguments: Any, **options: Any) -> None:
        """Nothing is sent."""
