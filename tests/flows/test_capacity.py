"""The numbers of docs/cluster.md are those that the code reckons."""

import pytest

from flows import capacity
from models.shape import model_shape
from tasks.costs.assumed import BYTES_PER_PARAMETER, OLMOE_1B_7B, AssumedRevisions
from tests.servers import CHECKOUT

PAGE = (CHECKOUT / "docs" / "cluster.md").read_text()


@pytest.fixture(scope="module")
def nothing_made(tmp_path_factory):
    """An empty root, so that nothing is reused and no earlier time counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROKPATH_ROOT", str(tmp_path_factory.mktemp("empty")))
        yield


@pytest.mark.usefixtures("nothing_made")
def test_the_page_has_the_tables_as_they_are_reckoned():
    for line in [*capacity.table().splitlines(), *capacity.arithmetic().splitlines()]:
        assert line in PAGE, f"docs/cluster.md lacks this line:\n{line}"


@pytest.mark.usefixtures("nothing_made")
def test_steps_add_up_and_grow_with_the_checkpoints():
    few, many = (capacity.costs_of("olmoe_1b_7b_zero_shot", number) for number in (3, 6))
    one, other = (
        capacity.capacity(costs.altogether(), number) for costs, number in ((few, 3), (many, 6))
    )
    assert other.download == 2 * one.download == 6 * weights()
    hours = sum(capacity.capacity(step, 6).gpu_hours for step in many.steps)
    assert other.gpu_hours == pytest.approx(hours)
    assert one.times(10).tokens == 10 * one.tokens


def weights():
    config = AssumedRevisions(OLMOE_1B_7B, BYTES_PER_PARAMETER).config_folder(None)
    return BYTES_PER_PARAMETER * model_shape(config).num_parameters


def test_the_assumed_model_is_olmoe_1b_7b():
    """6.9 billion parameters, 1.3 of them active: arXiv 2409.02060, abstract and table 1."""
    shape = model_shape(AssumedRevisions(OLMOE_1B_7B, BYTES_PER_PARAMETER).config_folder(None))
    assert shape.num_parameters == pytest.approx(6.9e9, rel=0.01)
    assert shape.num_active == pytest.approx(1.3e9, rel=0.02)
