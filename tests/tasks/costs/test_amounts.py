import pytest

from tasks.costs.amounts import Amount, Known, total
from tasks.costs.gpus import GPUS, REFERENCE, UTILISATION, gpu_named


def test_a_sum_is_known_as_its_worst_part():
    exact, bound, guess = Amount(1), Amount(2, Known.at_most), Amount(3, Known.about)
    assert exact + bound == Amount(3, Known.at_most)
    assert total([guess, bound, exact]) == Amount(6, Known.about)


def test_what_is_not_known_at_all_is_left_out_of_a_sum():
    assert total([None, Amount(4), None]) == Amount(4)
    assert total([None]) is None
    assert total([]) is None


def test_gpus_are_found_in_any_spelling():
    assert gpu_named(" h200 ").name == "H200"
    assert REFERENCE in GPUS


@pytest.mark.parametrize(
    ("name", "told"), [("A100", "A100-40GB or A100-80GB"), ("H20", "H200"), ("abacus", "B200")]
)
def test_an_unknown_gpu_is_told_with_names_that_are_known(name, told):
    with pytest.raises(ValueError, match=told):
        gpu_named(name)


def test_a_second_at_the_assumed_share_of_the_peak_is_a_second():
    gpu = gpu_named("A100-80GB")
    assert gpu.seconds(312e12 * UTILISATION, "bfloat16") == pytest.approx(1)
    assert gpu.seconds(19.5e12 * UTILISATION, "float32") == pytest.approx(1)


@pytest.mark.parametrize("gpu", GPUS.values(), ids=list(GPUS))
def test_a_gpu_says_where_its_peak_is_published(gpu):
    assert gpu.source.startswith("https://www.nvidia.com/")
    assert gpu.float32 < gpu.bfloat16
