"""The pretraining flow on its own: checkpoints in Hugging Face format, trained once."""

from flows.run import pretrain_flow


def test_a_study_can_be_requested_by_name_and_is_trained_once(copied, bodies):
    main, shuffled, _dense = pretrain_flow("smoke")
    assert bodies == {}
    assert [checkpoint.step for checkpoint in main] == [0, 10, 20, 30, 40]
    assert main[0].digest == shuffled[0].digest
    assert main[-1].digest != shuffled[-1].digest
    for checkpoint in [*main, *shuffled]:
        names = {file.name for file in checkpoint.path.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
