"""What no study refers to goes, and nothing else, whatever happens meanwhile."""

import multiprocessing
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from store import artifacts, state
from store.locks import GATE, locked, run_in_progress
from studies.load import load_study
from tasks import gc

DAY = 86_400


def grokpath(*words):
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def make(step, number, days_old=0.0):
    """An artifact that no study refers to, made some days ago."""
    key = f"{number:020x}"
    with artifacts.draft(step, 1, key, resumable=False) as out:
        (out / "data.txt").write_text(f"{step} {number}")
        made = artifacts.commit(
            out,
            step_name=step,
            version=1,
            fingerprint=key,
            inputs={},
            summary={},
            started_at=datetime.now(UTC),
            device="cpu",
        )
    age(made.path, days_old)
    return made.path


def age(path, days):
    then = time.time() - days * DAY
    for inner in [path, *path.rglob("*")]:
        os.utime(inner, (then, then), follow_symlinks=False)


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def bodies_run():
    return len(state.attempts())


def hold_gate(root, held, over):
    os.environ["GROKPATH_ROOT"] = str(root)
    with run_in_progress():
        held.set()
        over.wait(60)


def die_in_the_middle(root, named):
    os.environ["GROKPATH_ROOT"] = str(root)
    real, count = shutil.rmtree, [0]

    def rmtree(path, **options):
        count[0] += 1
        if count[0] == 3:  # the third is renamed and half deleted
            next(Path(path).iterdir()).unlink()
            os._exit(9)
        real(path, **options)

    shutil.rmtree = rmtree
    gc.collect(gc.look(named, 0), named, 0)


def test_what_an_abandoned_variant_left_goes_and_the_kept_study_runs_nothing(
    copied, smoke, prefect_server, tmp_path
):
    from flows.run import study_flow

    before = {f.name for f in artifacts.all_artifacts()}
    digests = {artifacts.load(f).digest for f in artifacts.all_artifacts()}
    variant = tmp_path / "variant.yaml"
    changed = {"extends": "smoke", "name": "variant", "analysis": {"num_permutations": 99}}
    variant.write_text(yaml.safe_dump(changed))
    study_flow(load_study(variant))
    new = [f for f in artifacts.all_artifacts() if f.name not in before]
    twins = {f.name for f in new if artifacts.load(f).digest in digests}  # stay, as what they equal
    extra = {f.name for f in new} - twins
    assert len(extra) >= 3

    # Both have results here: everything is in use.
    listed = grokpath("gc", "--older-than", "0")
    assert listed.exit_code == 0
    assert "stays: smoke" in listed.output
    assert "stays: variant" in listed.output
    assert "to compute again" not in listed.output

    # Only smoke is kept: what only the variant used is listed, and stays until it is confirmed.
    listed = grokpath("gc", "smoke", "--older-than", "0", "--paths")
    assert "goes: variant" in listed.output
    assert all(name in listed.output for name in extra)
    assert not any(f"/{name}\n" in listed.output for name in before)
    assert {f.name for f in artifacts.all_artifacts()} == before | twins | extra

    # Used a moment ago: by default it stays for some days.
    assert grokpath("gc", "smoke", "--yes").exit_code == 0
    assert {f.name for f in artifacts.all_artifacts()} == before | twins | extra

    removed = grokpath("gc", "smoke", "--older-than", "0", "--yes")
    assert removed.exit_code == 0, removed.output
    assert {f.name for f in artifacts.all_artifacts()} == before | twins
    assert not (copied / "variant").exists()
    ran = bodies_run()
    study_flow(smoke)
    assert bodies_run() == ran
    assert grokpath("verify").exit_code == 0


def test_without_a_name_the_records_say_what_results_were_computed_from(copied):
    """Also the corpus, the trainings, and the pins, which no record names directly."""
    found = gc.look([], 0)
    assert found.unused == []
    assert found.referred["smoke"] == len(list(artifacts.all_artifacts()))
    for name in ("report.html", "warehouse.duckdb", "figures"):
        (copied / "smoke" / name).unlink()
    assert len(gc.look([], 0).unused) == found.referred["smoke"]


@pytest.mark.parametrize("way", ["link", "dots"])
def test_a_root_named_in_another_way_is_the_same_root(copied, tmp_path, monkeypatch, way):
    num = len(list(artifacts.all_artifacts()))
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(copied)
    other = tmp_path / "link" if way == "link" else tmp_path / "beside" / ".." / copied.name
    monkeypatch.setenv("GROKPATH_ROOT", str(other))
    found = gc.look([], 0)
    assert (found.referred, found.unused) == ({"smoke": num}, [])


@pytest.mark.parametrize("step", ["warehouse", "report"])
def test_a_result_that_is_gone_stops_it(copied, step):
    for folder in (copied / "artifacts" / step).iterdir():
        shutil.rmtree(folder)
    refused = grokpath("gc", "--older-than", "0", "--yes")
    assert refused.exit_code == 1
    assert "it is not known what they were computed from" in refused.stderr.replace("\n", " ")
    assert len(list(artifacts.all_artifacts())) > 80


def test_what_branches_stood_for_stays(copied):
    for step in gc.PINS:
        make(step, 1)
    orphan = make("routing", 1)
    assert [one.path for one in gc.look([], 0).unused] == [orphan]


def test_nothing_goes_while_a_run_goes_on(copied):
    orphan = make("routing", 1)
    context = multiprocessing.get_context("spawn")
    held, over = context.Event(), context.Event()
    runner = context.Process(target=hold_gate, args=(copied, held, over))
    runner.start()
    try:
        assert held.wait(60)
        refused = grokpath("gc", "--older-than", "0", "--yes")
        assert refused.exit_code == 1
        assert "in progress" in refused.stderr
        assert orphan.exists()
    finally:
        over.set()
        runner.join(60)
    assert grokpath("gc", "--older-than", "0", "--yes").exit_code == 0
    assert not orphan.exists()


def test_age_counts_from_the_last_use(copied):
    old, young, used = make("routing", 1, 20), make("routing", 2, 3), make("routing", 3, 20)
    artifacts.touch(used)
    found = gc.look([], 14)
    assert [one.path for one in found.unused] == [old]
    assert {one.path for one in found.young} == {young, used}
    later = gc.look([], 14, now=time.time() + 15 * DAY)
    assert {one.path for one in later.unused} == {old, young, used}


def test_what_killed_processes_left_goes_unless_somebody_is_at_work(copied):
    step = copied / "artifacts" / "pretraining"
    draft, grave = step / ".draft-v1-abc", step / ".discarded-v1-abc-1"
    for folder in (draft, grave):
        folder.mkdir()
        (folder / "weights").write_bytes(b"x" * 1000)
    (copied / "artifacts" / "0123-failed").write_text("Prefect's")
    with locked("pretraining/v1-abc"):
        kinds = {one.kind: one for one in gc.look([], 0).remains}
        assert kinds["discarded"].num_bytes == 1000
        assert "draft" not in kinds
        assert "record" in kinds
    assert "draft" not in {one.kind for one in gc.look([], 1).remains}  # may be continued
    before = {f.name for f in artifacts.all_artifacts()}
    assert grokpath("gc", "--older-than", "0", "--yes").exit_code == 0
    assert not draft.exists()
    assert not grave.exists()
    assert not (copied / "artifacts" / "0123-failed").exists()
    assert {p.name for p in (copied / "locks").iterdir()} == {GATE}
    assert {f.name for f in artifacts.all_artifacts()} == before


def test_a_crash_in_the_middle_leaves_everything_whole(copied, smoke):
    orphans = [make("routing", number) for number in range(6)]
    context = multiprocessing.get_context("spawn")
    killed = context.Process(target=die_in_the_middle, args=(copied, []))
    killed.start()
    killed.join(60)
    assert killed.exitcode == 9
    left = [path for path in orphans if path.exists()]
    assert len(left) == 3
    assert all(artifacts.verify(path) == [] for path in artifacts.all_artifacts())
    assert list(copied.glob("artifacts/routing/.discarded-*"))
    assert grokpath("gc", "--older-than", "0", "--yes").exit_code == 0
    assert not list(copied.glob("artifacts/routing/.discarded-*"))
    assert gc.look([], 0).referred == {"smoke": 89}


def test_nothing_outside_the_root_is_touched(copied, tmp_path):
    outside = tmp_path / "outside"
    other = outside / f"v1-{7:020x}"
    other.mkdir(parents=True)
    (other / "precious.txt").write_text("mine")
    link = copied / "artifacts" / "routing" / other.name
    link.symlink_to(other)
    step = copied / "artifacts" / "elsewhere"
    step.symlink_to(outside)
    listed = grokpath("gc", "--older-than", "0", "--yes")
    assert listed.exit_code == 0
    assert listed.output.count("left alone, because it is a link") == 2
    assert (other / "precious.txt").read_text() == "mine"
    assert link.is_symlink()
    assert step.is_symlink()

    moved = tmp_path / "moved"
    (copied / "artifacts").rename(moved)
    (copied / "artifacts").symlink_to(moved)
    orphan = make("routing", 1)
    refused = grokpath("gc", "--older-than", "0", "--yes")
    assert refused.exit_code == 1  # the results lie outside: what they refer to is not known
    assert orphan.exists()


def test_two_roots_do_not_know_each_other(copied, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(copied, twin, symlinks=True)
    orphan = make("routing", 1)
    before = contents(twin)
    assert grokpath("gc", "--older-than", "0", "--yes").exit_code == 0
    assert not orphan.exists()
    assert contents(twin) == before


@pytest.mark.parametrize(
    ("words", "code", "beside"),
    [
        (("nanno",), 2, []),
        (("mine.yaml",), 1, []),
        (("mine.yaml",), 1, [{"name": "beside", "source": {"kind": "nano"}}]),
    ],
)
def test_a_study_that_cannot_be_looked_into_stops_it(
    copied, tmp_path, monkeypatch, words, code, beside
):
    """Also where one series of two cannot: what it refers to is not known."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    study = {
        "name": "mine",
        "series": [
            {"name": "main", "source": {"kind": "local", "path": "empty"}},
            *({**one, "role": "variant"} for one in beside),
        ],
        "domains": [{"name": "math", "probes": {"kind": "jsonl", "path": "math.jsonl"}}],
    }
    (tmp_path / "math.jsonl").write_text('{"text": "a b"}\n')
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    orphan = make("routing", 1)
    refused = grokpath("gc", "smoke", *words, "--older-than", "0", "--yes")
    assert refused.exit_code == code, refused.output
    assert orphan.exists()


def test_a_record_that_cannot_be_read_stops_it(copied):
    victim = next(iter(artifacts.all_artifacts()))
    (victim / artifacts.RECORD).write_text("{")
    orphan = make("routing", 1)
    refused = grokpath("gc", "--older-than", "0", "--yes")
    assert refused.exit_code == 1
    assert f"{victim}: its record cannot be read" in refused.stderr.replace("\n", "")
    assert orphan.exists()
    shutil.rmtree(victim)
    assert grokpath("gc", "--older-than", "0", "--yes").exit_code == 0
    assert not orphan.exists()


def test_an_empty_place_stays_empty(root):
    done = grokpath("gc")
    assert done.exit_code == 0
    assert "nothing to delete" in done.output
    assert not root.exists()
