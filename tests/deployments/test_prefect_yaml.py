"""The deployments as a user makes them: `prefect deploy --all` against a real server."""

import re
import shlex
from pathlib import Path

import httpx
import pytest
import yaml

from tests.servers import CHECKOUT, ask, prefect, prefect_at

FILE = "deployments/prefect.yaml"
NAMES = {
    "study/nano",
    "study/smoke",
    "study/olmoe",
    "study/file",
    "study/file-gpu",
    "watch/file",
    "watch/file-gpu",
    "pretrain/nano",
    "frozen-router/default",
}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Address of a server of our own on which everything was deployed."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_at(home) as api:
        for pool in ("cpu", "gpu"):
            prefect(home, api, "work-pool", "create", "--type", "process", pool)
        prefect(home, api, "deploy", "--all", "--prefect-file", FILE)
        yield home, api


def by_name(api):
    found = ask(f"{api}/deployments/filter", {})
    flows = {flow["id"]: flow["name"] for flow in ask(f"{api}/flows/filter", {})}
    return {f"{flows[one['flow_id']]}/{one['name']}": one for one in found}


def test_all_are_there_with_words_tags_and_pools(deployed):
    made = by_name(deployed[1])
    assert set(made) == NAMES
    for name, one in made.items():
        assert one["description"], name
        assert one["tags"][:2] == ["grokpath", *one["tags"][1:2]], name
        assert one["work_pool_name"] == ("gpu" if "gpu" in one["tags"] else "cpu"), name
        assert one["enforce_parameter_schema"], name


def test_no_schedule_computes_unasked(deployed):
    schedules = {name: one["schedules"] for name, one in by_name(deployed[1]).items()}
    assert [s["schedule"]["interval"] for s in schedules["watch/file"]] == [900.0]
    assert [s["schedule"]["cron"] for s in schedules["study/nano"]] == ["0 3 * * *"]
    assert not any(one["active"] for several in schedules.values() for one in several)


def test_two_watches_of_one_deployment_never_overlap(deployed):
    watch = by_name(deployed[1])["watch/file"]
    assert watch["global_concurrency_limit"]["limit"] == 1
    assert watch["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_the_form_explains_every_parameter(deployed):
    for name, one in by_name(deployed[1]).items():
        properties = one["parameter_openapi_schema"]["properties"]
        assert properties, name
        for parameter, schema in properties.items():
            assert schema.get("description"), f"{name}: {parameter}"
            assert "type" in schema, f"{name}: {parameter} has no input field of one type"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("study/nano", {"study": 7}),
        ("study/file", {"changes": "pathways"}),
        ("watch/file", {"overlays": "pilot"}),
        ("frozen-router/default", {"num_routers": 2}),
        ("frozen-router/default", {"threshold": "high"}),
    ],
)
def test_a_run_with_a_wrong_parameter_is_refused(deployed, name, parameters):
    api = deployed[1]
    place = f"{api}/deployments/{by_name(api)[name]['id']}/create_flow_run"
    answer = httpx.post(place, json={"parameters": parameters, "state": {"type": "SCHEDULED"}})
    assert answer.status_code == 409, answer.text
    (value,) = parameters.values()
    assert str(value) in answer.text  # what was found stands in the refusal


def test_a_run_with_right_parameters_is_taken(deployed):
    api = deployed[1]
    place = f"{api}/deployments/{by_name(api)['study/file']['id']}/create_flow_run"
    asked = {"study": "smoke", "overlays": ["tiny"], "changes": {"pathways": {"threshold": 0.6}}}
    answer = httpx.post(place, json={"parameters": asked, "state": {"type": "SCHEDULED"}})
    assert answer.status_code == 201, answer.text
    assert answer.json()["parameters"] == asked


def test_deploying_again_changes_nothing(deployed):
    home, api = deployed
    before = {name: one["id"] for name, one in by_name(api).items()}
    prefect(home, api, "deploy", "--all", "--prefect-file", FILE)
    assert {name: one["id"] for name, one in by_name(api).items()} == before


def test_every_study_that_a_deployment_names_ships():
    from studies.load import shipped_studies

    content = yaml.safe_load(Path(CHECKOUT, FILE).read_text())
    named = {d["parameters"]["study"] for d in content["deployments"] if d["parameters"]}
    assert named <= set(shipped_studies())


def test_what_the_guide_says_can_be_done_as_it_stands(deployed, tmp_path):
    home, api = deployed
    guide = Path(CHECKOUT, "docs", "schedule.md").read_text()
    (content,) = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    mine = tmp_path / "mine.yaml"
    mine.write_text(content)
    blocks = re.findall(r"```sh\n(.*?)```", guide, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert {command[0] for command in commands} == {"prefect"}
    meant = {mine.name: str(mine), "SCHEDULE_ID": by_name(api)["study/nano"]["schedules"][0]["id"]}
    for command in commands:
        prefect(home, api, *(meant.get(word, word) for word in command[1:]))
    made = by_name(api)
    assert not any(one["active"] for one in made["study/nano"]["schedules"])
    assert set(made) == NAMES | {"watch/mine", "study/mine"}
    assert [s["active"] for s in made["watch/mine"]["schedules"]] == [True]
    assert made["study/mine"]["parameters"]["changes"] == {"pathways": {"threshold": 0.6}}
    runs = ask(f"{api}/flow_runs/filter", {})
    changed = [run["parameters"] for run in runs if run["parameters"].get("study") == "smoke"]
    assert {"study": "smoke", "changes": {"pathways": {"threshold": 0.6}}} in changed
    table = set(re.findall(r"`((?:study|watch|pretrain|frozen-router)/[\w-]+)`", guide))
    assert table == NAMES


def test_a_schedule_added_to_a_deployment_of_ours_is_replaced_as_the_guide_warns(deployed):
    home, api = deployed
    prefect(home, api, "deployment", "schedule", "create", "study/smoke", "--interval", "600")
    assert len(by_name(api)["study/smoke"]["schedules"]) == 2
    prefect(home, api, "deploy", "--name", "smoke", "--prefect-file", FILE)
    assert [one["slug"] for one in by_name(api)["study/smoke"]["schedules"]] == ["daily"]
