"""The pretraining flow on its own: checkpoints in Hugging Face format, trained once."""

from flows.pretrain import pretrain_flow
from tasks import workers


def test_a_study_can_be_asked_for_by_name_and_is_trained_once(copied):
    ran = []
    workers.watch(ran.append)
    try:
        main, shuffled, _dense = pretrain_flow("smoke")
    finally:
        workers.unwatch(ran.append)
    assert [report for report in ran if report.finished and not report.reused] == []
    assert [checkpoint.step for checkpoint in main] == [0, 10, 20, 30, 40]
    assert main[0].digest == shuffled[0].digest
    assert main[-1].digest != shuffled[-1].digest
    for checkpoint in [*main, *shuffled]:
        names = {file.name for file in checkpoint.path.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
