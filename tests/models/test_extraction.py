import json
import math

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from models.extraction import extract
from models.families.declared import DeclaredFamily
from models.loading import load_checkpoint
from models.routing import RoutingCheckError

FAMILY = DeclaredFamily()


def run(model, samples, **options):
    token_ids, counted = samples
    return extract(model, FAMILY, token_ids, counted, **{"batch_size": 4, **options})


@pytest.fixture
def by_hand(model, samples):
    """Routing and losses of each sample alone: router inputs times router weights, full logits."""
    inputs: dict[int, torch.Tensor] = {}
    handles = [
        layer.mlp.register_forward_pre_hook(lambda module, args, i=i: inputs.update({i: args[0]}))
        for i, layer in enumerate(model.model.layers)
    ]
    weights_NLK, losses_N = [], []
    for ids, flags in zip(*samples, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
        weights_NLK.append(
            [
                torch.softmax(inputs[i][0] @ layer.mlp.gate.weight.T, dim=-1).mean(dim=0).tolist()
                for i, layer in enumerate(model.model.layers)
            ]
        )
        nll = [
            -logits[t - 1].log_softmax(-1)[ids[t]].item() for t in range(1, len(ids)) if flags[t]
        ]
        losses_N.append(np.mean(nll))
    for handle in handles:
        handle.remove()
    return np.array(weights_NLK), np.array(losses_N)


def test_equals_the_product_of_router_inputs_and_weights(model, samples, by_hand):
    result = run(model, samples)
    np.testing.assert_allclose(result.routing_weights_NLK, by_hand[0], atol=1e-6)
    np.testing.assert_allclose(result.losses_N, by_hand[1], atol=1e-6)
    np.testing.assert_allclose(result.routing_weights_NLK.sum(-1), 1.0, atol=1e-6)
    token_ids, counted = samples
    assert result.num_tokens_N.tolist() == [len(ids) for ids in token_ids]
    assert result.num_counted_N.tolist() == [sum(flags[1:]) for flags in counted]
    assert result.routing_weights_NLK.dtype == np.float32
    assert result.losses_N.dtype == np.float64


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_batch_size_and_padding_side_do_not_matter(
    model, samples, by_hand, batch_size, padding_side
):
    result = run(model, samples, batch_size=batch_size, padding_side=padding_side)
    np.testing.assert_allclose(result.routing_weights_NLK, by_hand[0], atol=1e-6)
    np.testing.assert_allclose(result.losses_N, by_hand[1], atol=1e-6)


def test_order_of_samples_does_not_matter(model, samples):
    order = np.random.default_rng(1).permutation(len(samples[0]))
    straight = run(model, samples)
    mixed = run(model, tuple([part[i] for i in order] for part in samples))
    np.testing.assert_allclose(
        mixed.routing_weights_NLK, straight.routing_weights_NLK[order], atol=1e-6
    )
    np.testing.assert_allclose(mixed.losses_N, straight.losses_N[order], atol=1e-6)


def test_progress_counts_samples(model, samples):
    seen = []
    run(model, samples, on_progress=lambda *report: seen.append(report))
    assert seen == [(4, 9, "samples"), (8, 9, "samples"), (9, 9, "samples")]


def test_the_model_is_left_as_it_was(model, samples):
    run(model, samples)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_bfloat16_passes_the_check(model, samples, by_hand):
    result = run(model.to(torch.bfloat16), samples)
    np.testing.assert_allclose(result.routing_weights_NLK, by_hand[0], atol=0.05)


# ---------------------------------------------------------------- refusals of the self-check


def test_probabilities_are_refused(model, samples):
    gate = model.model.layers[1].mlp.gate
    original = gate.forward

    def returns_probabilities(hidden_states):
        logits, weights, ids = original(hidden_states)
        return logits.softmax(dim=-1), weights, ids

    gate.forward = returns_probabilities
    message = (
        r"model\.layers\.1\.mlp\.gate: captured probabilities, expected raw router logits: all "
        r"47 rows lie within \[0, 1\] and sum to 1"  # samples of 12, 12, 9, 7 and 7 tokens
    )
    with pytest.raises(RoutingCheckError, match=message):
        run(model, samples, batch_size=5)


def test_rows_that_do_not_sum_to_one_are_refused(model, samples):
    with torch.no_grad():
        model.model.layers[2].mlp.gate.weight[0, 0] = torch.nan
    with pytest.raises(RoutingCheckError, match=r"layers\.2.* sum to nan, expected 1"):
        run(model, samples)


def test_other_experts_than_the_weights_say_are_refused(model, samples):
    block = model.model.layers[0].mlp
    original = block.gate.forward

    def routes_elsewhere(hidden_states):
        logits, weights, ids = original(hidden_states)
        return logits, weights, (ids + 1) % 6

    block.gate.forward = routes_elsewhere
    with pytest.raises(RoutingCheckError, match=r"layers\.0.* tokens executed other experts than"):
        run(model, samples)


def test_one_expert_executed_twice_is_refused(model, samples):
    gate = model.model.layers[0].mlp.gate
    original = gate.forward

    def repeats(hidden_states):
        logits, weights, ids = original(hidden_states)
        return logits, weights, ids[:, :1].expand(-1, 2)

    gate.forward = repeats
    with pytest.raises(RoutingCheckError, match=r"executed other experts"):
        run(model, samples)


def test_equal_weights_may_be_executed_in_any_order(model, samples):
    gate = model.model.layers[0].mlp.gate
    with torch.no_grad():
        gate.weight.zero_()

    def picks_the_last(hidden_states):
        hidden_states = hidden_states.reshape(-1, 16)
        logits = hidden_states @ gate.weight.T
        ids = torch.tensor([[5, 4]]).expand(len(logits), 2)
        return logits, torch.full(ids.shape, 1 / 6), ids

    gate.forward = picks_the_last
    np.testing.assert_allclose(run(model, samples).routing_weights_NLK[:, 0], 1 / 6, atol=1e-7)


def test_a_model_that_looks_at_padding_is_refused(model, samples):
    original = model.model.forward

    def ignores_the_mask(input_ids, **rest):
        return original(input_ids=input_ids, use_cache=False)

    model.model.forward = ignores_the_mask
    with pytest.raises(RoutingCheckError, match=r"padding tokens and none.*is not excluded"):
        run(model, samples, batch_size=9, padding_side="left")


def test_router_logits_of_other_tokens_are_refused(model, samples):
    gate = model.model.layers[1].mlp.gate
    gate.register_forward_hook(lambda module, args, output: (output[0][:-1], *output[1:]))
    with pytest.raises(RoutingCheckError, match=r"logits of 47 tokens, expected 4 samples of 12"):
        run(model, samples)


def test_experts_that_are_never_called_are_refused(model, samples):
    block = model.model.layers[1].mlp
    block.experts.__class__ = type(
        "Bypassed", (type(block.experts),), {"__call__": lambda s, h, *a: h}
    )
    with pytest.raises(RoutingCheckError, match=r"layers\.1.* its experts were not called"):
        run(model, samples)


# ---------------------------------------------------------------- wrong samples


@pytest.mark.parametrize(
    ("token_ids", "counted", "message"),
    [
        ([], [], "found 0 samples"),
        ([[3, 4]], [], "found 1 samples and 0 lists"),
        ([[3, 4], [5, 6, 7]], [[False, True], [True, True]], "sample 1 has 3 tokens, but 2 flags"),
        ([[3, 4]], [[True, False]], r"sample 0 \(2 tokens\) has no token whose loss counts"),
        ([[]], [[]], r"sample 0 \(0 tokens\) has no token"),
        ([[3, 50]], [[False, True]], "token ids from 3 to 50, but the model knows 0 to 49"),
    ],
)
def test_wrong_samples_are_refused(model, token_ids, counted, message):
    with pytest.raises(ValueError, match=message):
        extract(model, FAMILY, token_ids, counted, batch_size=2)


# ---------------------------------------------------------------- loading


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "step1")
    return tmp_path / "step1"


def test_a_loaded_checkpoint_measures_the_same(model, samples, folder, capfd):
    loaded, family, device = load_checkpoint(folder, "cpu", "float32")
    assert (device, type(family), loaded.training) == ("cpu", DeclaredFamily, False)
    assert loaded.config._experts_implementation == "grouped_mm"
    assert loaded.config._attn_implementation == "sdpa"
    np.testing.assert_array_equal(
        run(loaded, samples).routing_weights_NLK, run(model, samples).routing_weights_NLK
    )
    assert capfd.readouterr().err == ""


def test_bfloat16_is_loaded_as_such(folder):
    assert load_checkpoint(folder, "cpu", "bfloat16")[0].dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype is 'float16', expected one of float32, bfloat16"):
        load_checkpoint(folder, "cpu", "float16")


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"weights only as pytorch_model\.bin, which is not read"):
        load_checkpoint(folder, "cpu", "float32")


def test_no_weights_and_no_config_are_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no weights: expected model\.safetensors"):
        load_checkpoint(folder, "cpu", "float32")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_checkpoint(folder, "cpu", "float32")


def test_unknown_family_is_refused_before_loading(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mystery"}))
    with pytest.raises(ValueError, match="no family reads models of type 'mystery'"):
        load_checkpoint(folder, "cpu", "float32")


def test_missing_weights_are_not_filled_with_random_ones(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.gate.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 parameters are missing, model\.layers\.1\.mlp\.gate"):
        load_checkpoint(folder, "cpu", "float32")


def with_weights(folder, change):
    """Rewrite the weights of a checkpoint as `change` makes them."""
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: name.replace(".self_attn.", "._orig_mod.self_attn."),
    ],
    ids=["model", "layers"],
)
def test_names_of_a_compiled_model_are_read(model, folder, renamed):
    with_weights(folder, lambda weights: {renamed(name): w for name, w in weights.items()})
    loaded, _, _ = load_checkpoint(folder, "cpu", "float32")
    for (name, weight), own in zip(loaded.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(weight, own), name


def test_names_with_another_prefix_are_refused_with_the_reason(folder, capfd):
    with_weights(folder, lambda weights: {f"module.{name}": w for name, w in weights.items()})
    with pytest.raises(ValueError, match=r"begin with 'module\.', as a wrapper of the model"):
        load_checkpoint(folder, "cpu", "float32")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("part", ["model.layers.0.mlp.gate.bias", "model.layers.3.self_attn.x"])
def test_tensors_that_the_model_does_not_have_are_refused_by_name(folder, part):
    with_weights(folder, lambda weights: {**weights, part: torch.zeros(6)})
    with pytest.raises(ValueError, match=rf"1 tensors that OlmoeForCausalLM does not .* {part}"):
        load_checkpoint(folder, "cpu", "float32")


def test_rotary_frequencies_that_older_versions_saved_are_no_harm(folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    with_weights(folder, lambda weights: {**weights, name: torch.zeros(4)})
    load_checkpoint(folder, "cpu", "float32")


def test_weights_of_another_shape_are_refused_by_name(folder):
    name = "model.layers.0.mlp.gate.weight"
    with_weights(folder, lambda weights: {**weights, name: torch.zeros(7, 16)})
    with pytest.raises(ValueError, match=rf"{name} of shape \(7, 16\).* \(6, 16\)"):
        load_checkpoint(folder, "cpu", "float32")


@pytest.mark.parametrize(
    ("value", "kind"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")]
)
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.gate.weight"])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, name, value, kind):
    def broken(weights):
        weights[name][0, 0] = value
        return weights

    with_weights(folder, broken)
    with pytest.raises(ValueError, match=rf"step1 holds {kind}.* in {name}"):
        load_checkpoint(folder, "cpu", "float32")


def test_an_adapter_beside_the_weights_is_never_applied_again(model, folder):
    spec = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, spec)
    adapted.save_pretrained(folder)
    adapted.merge_and_unload().save_pretrained(folder)
    with pytest.raises(ValueError, match=r"step1 has weights and an adapter .* delete adapter_con"):
        load_checkpoint(folder, "cpu", "float32")


def test_a_configuration_that_names_the_file_of_weights_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["transformers_weights"] = "other.safetensors"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"transformers_weights: other\.safetensors"):
        load_checkpoint(folder, "cpu", "float32")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_reported_with_its_folder(folder, name, share):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"step1 holds a damaged file.*save the checkpoint again"):
        load_checkpoint(folder, "cpu", "float32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_device(folder):
    assert load_checkpoint(folder, "auto", "float32")[2] == "cpu"
    with pytest.raises(ValueError, match="device is 'cuda', but torch finds no CUDA device"):
        load_checkpoint(folder, "cuda", "float32")
    with pytest.raises(ValueError, match="device is 'gpu', expected auto, cpu, cuda or cuda:<num"):
        load_checkpoint(folder, "gpu", "float32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_measures_like_the_cpu(folder, samples):
    here, there = (load_checkpoint(folder, device, "float32")[0] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(
        run(there, samples).routing_weights_NLK, run(here, samples).routing_weights_NLK, atol=1e-4
    )


def test_inputs_alone_leave_the_last_token_out_of_the_routing(model):
    family = DeclaredFamily()
    samples = [[3, 4, 5, 6], [7, 8, 9]]
    counted = [[False] * (len(ids) - 1) + [True] for ids in samples]
    for side in ("right", "left"):
        inputs = extract(
            model, family, samples, counted, batch_size=2, tokens="inputs", padding_side=side
        )
        cut = [ids[:-1] for ids in samples]
        every = [[True] * len(ids) for ids in cut]
        shorter = extract(model, family, cut, every, batch_size=2)
        np.testing.assert_allclose(
            inputs.routing_weights_NLK, shorter.routing_weights_NLK, atol=1e-6
        )
        whole = extract(model, family, samples, counted, batch_size=2)
        np.testing.assert_allclose(inputs.losses_N, whole.losses_N, atol=1e-6)
        assert not np.allclose(inputs.routing_weights_NLK, whole.routing_weights_NLK, atol=1e-4)
