import numpy as np
import pytest
import torch
from transformers import BloomConfig, GPT2Config, OlmoeConfig

from models.batches import check_samples, num_positions, pad, select_tokens

IDS = [[7, 8, 9], [5, 6]]
COUNTED = [[True, False, True], [True, True]]


@pytest.mark.parametrize(
    ("side", "mask", "counted", "kept"),
    [
        ("right", [[1, 1, 1], [1, 1, 0]], [2, 4], [0, 1, 2, 3, 4]),
        ("left", [[1, 1, 1], [0, 1, 1]], [2, 5], [0, 1, 2, 4, 5]),
    ],
)
def test_places_follow_the_padding(side, mask, counted, kept):
    everything = select_tokens(np.array([3, 2]), "all", max_tokens=9, kernel_samples=2)
    batch = pad(IDS, COUNTED, np.array([0, 1]), side, "all", everything)
    assert batch.mask_BT.int().tolist() == mask
    assert batch.input_ids_BT[batch.mask_BT].tolist() == [7, 8, 9, 5, 6]
    assert batch.counted_P.tolist() == counted  # the first token of a sample is not among them
    assert batch.selected_Q.tolist() == kept
    assert batch.kernel_S.tolist() == [0, 1]
    assert batch.padded


def test_inputs_leave_out_the_last_token():
    nothing = select_tokens(np.array([3, 2]), "inputs", max_tokens=1, kernel_samples=1)
    batch = pad(IDS, COUNTED, np.array([0, 1]), "right", "inputs", nothing)
    assert batch.routed_BT.int().tolist() == [[1, 1, 0], [1, 0, 0]]


def test_a_sample_alone_has_no_padding_and_is_asked_for_nothing_else():
    everything = select_tokens(np.array([3, 2]), "all", max_tokens=9, kernel_samples=2)
    alone = pad(IDS, COUNTED, np.array([0, 1]), "left", "all", everything).alone(1)
    assert alone.input_ids_BT.tolist() == [[5, 6]]
    assert alone.mask_BT.all()
    assert not alone.padded
    assert [len(one) for one in (alone.counted_P, alone.selected_Q, alone.kernel_S)] == [0, 0, 0]


def test_samples_of_one_length_are_not_padded():
    everything = select_tokens(np.array([3, 2]), "all", max_tokens=9, kernel_samples=2)
    assert not pad(IDS, COUNTED, np.array([1]), "right", "all", everything).padded


def test_a_batch_moves_whole():
    everything = select_tokens(np.array([3, 2]), "all", max_tokens=9, kernel_samples=2)
    batch = pad(IDS, COUNTED, np.array([0, 1]), "right", "all", everything)
    moved = batch.to(torch.device("meta"))
    tensors = [one for one in vars(moved).values() if isinstance(one, torch.Tensor)]
    assert [one.device.type for one in tensors] == ["meta"] * 6
    assert (moved.padded, moved.padding_side) == (True, "right")


def test_samples_longer_than_the_model_was_built_for_are_refused():
    config = OlmoeConfig(vocab_size=10, max_position_embeddings=3)
    check_samples(IDS, COUNTED, config)
    with pytest.raises(
        ValueError, match=r"sample 1 has 4 tokens, and the model was built for 3 .*"
    ):
        check_samples([*IDS[:1], [1, 2, 3, 4]], [COUNTED[0], [True] * 4], config)


def test_tokens_that_the_model_does_not_know_are_refused():
    with pytest.raises(ValueError, match="the model knows 0 to 8; are they of another token"):
        check_samples(IDS, COUNTED, OlmoeConfig(vocab_size=9))


def test_positions_are_those_of_the_text_part():
    assert num_positions(OlmoeConfig(max_position_embeddings=64)) == 64
    assert num_positions(GPT2Config(n_positions=32)) == 32
    assert num_positions(BloomConfig()) is None
