"""Every difference between Detectron2 v0.6 and its head, and nothing else.

Both call themselves "0.6", so each difference is found by attribute or by signature. The rest of
the package imports from here what differs and from Detectron2 what does not:

==========================  ==================================  ==============================
here                        Detectron2 v0.6                     Detectron2's head
==========================  ==================================  ==============================
`launch`                    several processes need CUDA         gloo, only where CUDA is absent
`create_ddp_model`          `device_ids` set on CPU too         the same
`build_test_loader`         batches of one image                `batch_size`
==========================  ==================================  ==============================
"""

import gc
import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.data import build_detection_test_loader
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import launch as detectron2_launch
from detectron2.engine.defaults import create_ddp_model as detectron2_create_ddp_model
from detectron2.engine.launch import DEFAULT_TIMEOUT, _find_free_port
from detectron2.utils import comm
from torch.multiprocessing import ProcessRaisedException

from .cluster import Place, place_in_job
from .errors import UsageError, hand_over, handed_over

__all__ = ["PRECISIONS", "build_test_loader", "create_ddp_model", "launch", "registers_coco"]

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def launch(
    main_func: Callable,
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
    num_processes: int = 1,
) -> None:
    """Run `main_func(*args)` in every process of a training job.

    With GPUs this is Detectron2's own `launch`. Without (`num_gpus_per_machine=0`) it starts
    `num_processes` CPU processes on each machine and joins them over gloo, in both versions and
    also where a GPU is present but not wanted. They share the cores unless `OMP_NUM_THREADS`
    says otherwise. In a process that torchrun or srun started beside others, it joins these: each
    is one process of the job, with one GPU or on CPU.

    Args:
        main_func: must be importable by name where there are several processes (they are spawned).
        num_gpus_per_machine: GPUs, and so processes, on each machine; 0 for CPU.
        num_machines, machine_rank: of the job, and of this machine in it.
        dist_url: where the processes meet, e.g. `tcp://10.0.0.1:8686`. None or `"auto"` takes a
            free port on this machine, which only fits one machine.
        args: arguments of `main_func`.
        timeout: of the distributed operations.
        num_processes: CPU processes on each machine; must stay 1 with GPUs.

    Raises:
        UsageError: for numbers that contradict each other or the job that was started around, or
            more GPUs than PyTorch sees.
        UserError: of its kind, what a user can mend and `main_func` raised in a spawned process.
    """
    if place := place_in_job(num_machines):
        backend = _backend_at(place, num_gpus_per_machine, num_processes)
        _run_in_job(main_func, args, place, backend, timeout)
        return
    _check_job(num_gpus_per_machine, num_machines, machine_rank, dist_url, num_processes)
    if num_machines * max(num_gpus_per_machine, num_processes) == 1:
        main_func(*args)
        return
    args = (main_func, *args)  # of hand_over
    try:
        if num_gpus_per_machine:
            url = dist_url or "auto"
            detectron2_launch(
                hand_over, num_gpus_per_machine, num_machines, machine_rank, url, args, timeout
            )
            return
        if dist_url in (None, "auto"):
            dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
        job = (hand_over, num_machines, num_processes, machine_rank, dist_url, args, timeout)
        mp.spawn(_cpu_worker, nprocs=num_processes, args=job, daemon=False)
    except ProcessRaisedException as error:
        raise handed_over(error) or error from None


def _backend_at(place: Place, num_gpus: int, num_processes: int) -> str:
    """Choose the GPU of a process that was started beside others; returns the backend to join by.

    Raises:
        UsageError: other numbers of GPUs or processes are asked for, or there is no GPU for each.
    """
    count = place.local_size
    if num_gpus not in (0, 1, count) or num_processes not in (1, count):
        raise UsageError(
            f"{place.starter} started {count} processes on this machine, and --num-gpus {num_gpus} "
            f"--num-processes {num_processes} ask for others: leave these out, or --num-gpus 0 for "
            "CPU"
        )
    if not (num_gpus and torch.cuda.is_available()):
        return "gloo"
    visible = torch.cuda.device_count()
    own = place.starter == "srun" and visible == 1  # --gpus-per-task=1 shows each its own
    if visible < count and not own:
        raise UsageError(
            f"{place.starter} started {count} processes on this machine, and PyTorch sees "
            f"{visible} GPUs: start one process for each, or give --num-gpus 0"
        )
    torch.cuda.set_device(0 if own else place.local_rank)
    return "nccl"


def _check_job(num_gpus_per_machine, num_machines, machine_rank, dist_url, num_processes):
    """Raise what `launch` promises to raise."""
    if num_gpus_per_machine < 0 or num_processes < 1 or num_machines < 1:
        raise UsageError(
            f"launch got {num_gpus_per_machine} GPUs, {num_processes} processes and {num_machines} "
            "machines: GPUs cannot be negative, the others start at 1"
        )
    if not 0 <= machine_rank < num_machines:
        raise UsageError(f"machine rank {machine_rank} is not in 0..{num_machines - 1}")
    if num_machines > 1 and dist_url in (None, "auto"):
        raise UsageError(
            f"{num_machines} machines need one explicit --dist-url, such as tcp://HOST:PORT with "
            "the address of machine 0"
        )
    if num_gpus_per_machine and num_processes > 1:
        raise UsageError(
            f"{num_processes} CPU processes and {num_gpus_per_machine} GPUs exclude each other: "
            "with GPUs there is one process for each; for CPU use --num-gpus 0"
        )
    visible = torch.cuda.device_count()
    if num_gpus_per_machine * num_machines > 1 and num_gpus_per_machine > visible:
        raise UsageError(
            f"{num_gpus_per_machine} GPUs are asked for and PyTorch sees {visible}; several "
            "processes without GPUs: --num-gpus 0 --num-processes N"
        )


def _cpu_worker(
    local_rank, main_func, num_machines, num_processes, machine_rank, dist_url, args, timeout
):
    """One spawned CPU process of `launch`."""
    size, rank = num_machines * num_processes, machine_rank * num_processes + local_rank
    place = Place("launch", rank, size, local_rank, num_processes, dist_url)
    _run_in_job(main_func, args, place, "gloo", timeout)


def _run_in_job(main_func, args, place: Place, backend: str, timeout: timedelta) -> None:
    """`main_func(*args)` in a process that joins the others of its job."""
    if backend == "gloo" and "OMP_NUM_THREADS" not in os.environ:
        affinity = getattr(os, "sched_getaffinity", None)  # Linux only
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // place.local_size))
    dist.init_process_group(
        backend=backend,
        init_method=place.address,
        world_size=place.world_size,
        rank=place.rank,
        timeout=timeout,
    )
    _create_local_process_group(place)
    comm.synchronize()
    try:
        main_func(*args)
    except SystemExit:  # all processes together, at a signal
        _leave_process_groups()
        raise
    # Not after an error: the others may be inside an operation with this process, and the parent
    # ends them.
    _leave_process_groups()


def _leave_process_groups() -> None:
    """End the gloo threads of this process, which all hang on the groups being freed.

    `destroy_process_group` frees a group only if nobody else holds it, and Detectron2's `comm`
    holds two for good. A thread that lives on into the interpreter's end and then wants the GIL
    aborts the process ("terminate called without an active exception", seen in about one of some
    hundred runs).
    """
    comm.synchronize()
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    dist.destroy_process_group()
    gc.collect()  # DistributedDataParallel is part of reference cycles


def _create_local_process_group(place: Place) -> None:
    """Tell `detectron2.utils.comm` which processes are on the same machine."""
    count = place.local_size
    if hasattr(comm, "create_local_process_group"):  # head
        comm.create_local_process_group(count)
        return
    for first in range(0, place.world_size, count):  # every process takes part in making each group
        group = dist.new_group(list(range(first, first + count)))
        if place.rank in range(first, first + count):
            comm._LOCAL_PROCESS_GROUP = group


def create_ddp_model(model: torch.nn.Module, **kwargs: Any) -> torch.nn.Module:
    """Wrap `model` for several processes; the model itself where there is only one.

    Detectron2's function of this name, which sets `device_ids` to the process's number on its
    machine; PyTorch refuses that for a model on CPU, and the GPU's number may be another one.
    """
    devices = {parameter.device for parameter in model.parameters()}
    on_gpu = len(devices) == 1 and next(iter(devices)).type == "cuda"
    kwargs.setdefault("device_ids", [next(iter(devices)).index] if on_gpu else None)
    return detectron2_create_ddp_model(model, **kwargs)


def build_test_loader(
    dataset,
    *,
    mapper: Callable,
    sampler: torch.utils.data.Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
) -> torch.utils.data.DataLoader:
    """Detectron2's `build_detection_test_loader` with `batch_size` in both versions.

    Args:
        dataset: list of dataset dicts (as `get_detection_dataset_dicts` returns them), or a
            PyTorch data set.
        mapper: dataset dict -> model input; None leaves the dicts as they are.
        sampler: default: Detectron2's `InferenceSampler`, which deals the images out to the
            processes, each image once.
        batch_size: images per batch and process; the last batch may be smaller.
        num_workers: data loading processes.
        collate_fn: default: a batch is the list of its model inputs.
    """
    options = {"mapper": mapper, "sampler": sampler, "num_workers": num_workers}
    if "batch_size" in inspect.signature(build_detection_test_loader).parameters:  # head
        return build_detection_test_loader(
            dataset, batch_size=batch_size, collate_fn=collate_fn, **options
        )
    single = build_detection_test_loader(dataset, collate_fn=collate_fn, **options)
    if batch_size == 1:
        return single
    # v0.6 always makes batches of one: keep its data set and its sampler, batch them anew.
    streamed = isinstance(single.dataset, torch.utils.data.IterableDataset)
    return torch.utils.data.DataLoader(
        single.dataset,
        batch_size=batch_size,
        sampler=None if streamed else single.sampler,
        num_workers=num_workers,
        collate_fn=single.collate_fn,
    )


def registers_coco(function: Callable) -> bool:
    """Whether a function of `DatasetCatalog` is the one that `register_coco_instances` makes.

    In both versions it is a function written inside that one, which calls `load_coco_json`.
    """
    code = getattr(function, "__code__", "none, as of a method or an object")
    return code in register_coco_instances.__code__.co_consts
