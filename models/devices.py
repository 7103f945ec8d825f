"""Where a model runs: the device by name, its memory, asynchronous copies, quiet libraries."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from transformers.utils import logging

# How allocators report that memory is short, beyond the exceptions of their own.
_SHORT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "out of memory",
    "ALLOC_FAILED",
    "could not create a memory object",
)


def resolve_device(device: str) -> str:
    """Device by its name: `cpu`, `cuda`, `cuda:1`, or `auto`, which is CUDA where there is one.

    Raises
    ------
    ValueError
        When it is no such name, or this machine has no such device.
    """
    num_cards = torch.cuda.device_count()
    if device == "auto":
        return "cuda" if num_cards else "cpu"
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or not (number.isdecimal() or device == "cuda")):
        raise ValueError(f"device is {device!r}, expected auto, cpu, cuda or cuda:<number>")
    if kind == "cuda" and not num_cards:
        raise ValueError(f"device is {device!r}, but torch finds no CUDA device; use auto or cpu")
    if number and int(number) >= num_cards:
        raise ValueError(
            f"device is {device!r}, but torch finds {num_cards} CUDA devices, cuda:0 to "
            f"cuda:{num_cards - 1}"
        )
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory, of the device or the host, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(how in str(error) for how in _SHORT_OF_MEMORY)


def free_memory() -> None:
    """Return unused memory, so that other processes can have it."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def fetch(tensors: dict[str, torch.Tensor]) -> Callable[[], dict[str, torch.Tensor]]:
    """Begin to copy tensors of one device to the host; the returned function waits for them."""
    # Copies from CUDA that block nobody end up in pinned memory.
    on_host = {name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()}
    devices = {tensor.device for tensor in tensors.values() if tensor.is_cuda}
    copied = [torch.cuda.current_stream(device).record_event() for device in devices]

    def wait() -> dict[str, torch.Tensor]:
        for event in copied:
            event.synchronize()
        return on_host

    return wait


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Read and write checkpoints without transformers' progress bars and load reports."""
    enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if enabled:
            logging.enable_progress_bar()
