import pytest
import torch

from models.devices import fetch, free_memory, is_out_of_memory, resolve_device


def test_devices_by_name():
    num_cards = torch.cuda.device_count()
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if num_cards else "cpu")
    with pytest.raises(ValueError, match="cuda:99"):
        resolve_device("cuda:99")
    for wrong in ("gpu", "cuda:", "cuda:x", "mps", "cpu:0", ""):
        with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:<number>"):
            resolve_device(wrong)


def test_what_the_allocator_raises_is_out_of_memory():
    with pytest.raises(RuntimeError) as too_much:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(too_much.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_other_errors_are_not_out_of_memory():
    with pytest.raises(RuntimeError) as wrong_shape:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(wrong_shape.value)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_what_is_fetched_is_what_was_computed():
    free_memory()
    device = torch.device(resolve_device("auto"))
    squares = torch.arange(5, device=device).square()
    fetched = fetch({"squares": squares})()
    assert fetched["squares"].device.type == "cpu"
    assert fetched["squares"].tolist() == [0, 1, 4, 9, 16]
