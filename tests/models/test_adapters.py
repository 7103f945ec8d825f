import json

import pytest
import torch
from peft import PeftModel
from transformers import OlmoeForCausalLM, Qwen3Config, Qwen3ForCausalLM

from models.adapters import add_adapter, save_adapter, with_adapters
from models.extraction import extract
from models.families.registry import family_of
from models.nano.corpus import SPECIAL_TOKENS
from models.nano.model import build_tokenizer
from studies.settings import TuningSpec

OLMOE = family_of("olmoe")
SPEC = TuningSpec(rank=3)


@pytest.fixture
def checkpoint(model, tmp_path):
    """The tiny model with a tokenizer of as many words, as a folder in Hugging Face format."""
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    num_words = model.config.vocab_size - len(SPECIAL_TOKENS)
    words = [f"w{number}" for number in range(num_words)]
    build_tokenizer([*SPECIAL_TOKENS, *words]).save_pretrained(folder)
    return folder


def load(checkpoint):
    return OlmoeForCausalLM.from_pretrained(checkpoint, experts_implementation="grouped_mm").eval()


def write_adapter(model, folder, spec=SPEC, seed=0):
    """An adapter that is far from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = add_adapter(model, spec)
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.copy_(torch.randn_like(weight))
    save_adapter(adapted, folder, "c0ffee")
    adapted.unload()
    return folder


@pytest.fixture
def adapters(checkpoint, tmp_path):
    return {
        "math": write_adapter(load(checkpoint), tmp_path / "a"),
        "code": write_adapter(load(checkpoint), tmp_path / "b", seed=1),
    }


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(torch.tensor([[5, 9, 3, 30, 7], [2, 2, 8, 4, 49]])).logits


# ---------------------------------------------------------------- writing


def test_an_adapter_is_two_files_that_name_no_path(checkpoint, tmp_path):
    write_adapter(load(checkpoint), tmp_path / "a")
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    text = (tmp_path / "a" / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == "c0ffee"
    assert json.loads(text)["target_modules"] == ["k_proj", "q_proj", "v_proj"]
    assert str(tmp_path) not in text


def test_a_fresh_adapter_changes_nothing_and_can_be_taken_off(model):
    before, names = logits(model), set(model.state_dict())
    adapted = add_adapter(model, SPEC)
    assert torch.equal(logits(model), before)
    adapted.unload()
    assert torch.equal(logits(model), before)
    assert set(model.state_dict()) == names


@pytest.mark.parametrize(("alpha", "scale"), [(None, 2.0), (3, 1.0)])
def test_only_the_adapter_can_be_trained_and_is_float32(model, alpha, scale):
    add_adapter(model.to(torch.bfloat16), SPEC.model_copy(update={"alpha": alpha}))
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 3 * 3 * 2  # layers, targets, factors
    assert all(
        "lora_" in name and weight.dtype == torch.float32 for name, weight in trained.items()
    )
    assert model.model.layers[0].self_attn.q_proj.scaling == {"default": scale}


# ---------------------------------------------------------------- targets


def test_a_target_that_is_not_there_is_answered_with_near_names(model):
    with pytest.raises(ValueError, match=r"names q_prj, which is no linear layer") as error:
        add_adapter(model, SPEC.model_copy(update={"targets": ("q_prj", "k_proj")}))
    assert "did you mean q_proj" in str(error.value)


@pytest.mark.parametrize("target", ["gate_up_proj", "gate", "embed_tokens", "proj"])
def test_fused_experts_routers_and_embeddings_are_no_targets(model, target):
    with pytest.raises(ValueError, match=f"names {target}, which is no linear layer") as error:
        add_adapter(model, SPEC.model_copy(update={"targets": (target,)}))
    assert "Experts are fused (down_proj, gate_up_proj) and no linear" in str(error.value)


def test_the_experts_of_a_dense_model_are_not_spoken_of():
    config = Qwen3Config(
        vocab_size=20, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    with pytest.raises(ValueError, match="there are down_proj, gate_proj") as error:
        add_adapter(Qwen3ForCausalLM(config), SPEC.model_copy(update={"targets": ("xyz",)}))
    assert "fused" not in str(error.value)


# ---------------------------------------------------------------- scoring


def test_each_domain_computes_as_peft_does_and_none_as_the_checkpoint(checkpoint, adapters):
    plain = logits(load(checkpoint))
    expected = {
        domain: logits(PeftModel.from_pretrained(load(checkpoint), str(folder)))
        for domain, folder in adapters.items()
    }
    assert not torch.allclose(expected["math"], expected["code"], atol=0.1)
    tuned = with_adapters(load(checkpoint), adapters)
    assert torch.equal(logits(tuned.use(None)), plain)
    for domain in ("math", "code", "math"):
        assert torch.equal(logits(tuned.use(domain)), expected[domain])
    assert torch.equal(logits(tuned.use(None)), plain)


def test_loading_draws_nothing_and_leaves_nothing_to_train(checkpoint, adapters):
    state = torch.random.get_rng_state()
    tuned = with_adapters(load(checkpoint).train(), adapters)
    model = tuned.use("code")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any("lora_" in n and w.requires_grad for n, w in model.named_parameters())
    assert not any(module.training for module in model.modules())


def test_domains_with_one_folder_share_one_adapter(checkpoint, adapters):
    tuned = with_adapters(load(checkpoint), {"math": adapters["math"], "data": adapters["math"]})
    assert list(tuned.use("data").model.layers[0].self_attn.q_proj.lora_A) == ["adapter0"]
    assert torch.equal(logits(tuned.use("data")), logits(tuned.use("math")))


def test_without_adapters_the_model_is_as_it_is(checkpoint):
    tuned = with_adapters(load(checkpoint), {})
    assert torch.equal(logits(tuned.use(None)), logits(load(checkpoint)))
    with pytest.raises(ValueError, match="no adapter for domain 'math'; there are none"):
        tuned.use("math")


def test_routing_of_a_tuned_model_is_that_of_the_merged_weights(checkpoint, adapters, samples):
    merged = PeftModel.from_pretrained(load(checkpoint), str(adapters["math"])).merge_and_unload()
    expected = extract(merged, OLMOE, *samples, batch_size=4)
    tuned = with_adapters(load(checkpoint), adapters)
    plain = extract(tuned.use(None), OLMOE, *samples, batch_size=4)
    found = extract(tuned.use("math"), OLMOE, *samples, batch_size=4)
    torch.testing.assert_close(
        torch.tensor(found.routing_weights_NLK),
        torch.tensor(expected.routing_weights_NLK),
        rtol=0,
        atol=1e-4,
    )
    assert abs(found.routing_weights_NLK - plain.routing_weights_NLK).max() > 0.05


def test_scores_are_those_of_lm_eval_with_peft(checkpoint, adapters):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    texts = [("w1 w2 w3", " w4"), ("w40", " w7 w8"), ("w5 w5", " w9 w1 w2")]
    requests = [Instance("loglikelihood", {}, text, number) for number, text in enumerate(texts)]
    theirs = HFLM(str(checkpoint), peft=str(adapters["code"]), device="cpu", dtype="float32")
    tuned = with_adapters(load(checkpoint), adapters)
    ours = HFLM(tuned.use("code"), tokenizer=theirs.tokenizer)
    assert len(theirs.tokenizer) == theirs.model.config.vocab_size
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    assert ours.loglikelihood(requests, disable_tqdm=True) == expected
    tuned.use(None)
    assert ours.loglikelihood(requests, disable_tqdm=True) != expected


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_an_adapter_is_named(checkpoint, adapters, file):
    (adapters["math"] / file).rename(adapters["math"] / "adapter_model.bin")
    with pytest.raises(ValueError, match=rf"is no adapter: {file} is missing"):
        with_adapters(load(checkpoint), adapters)


def test_an_adapter_of_another_model_is_refused(checkpoint, adapters, model):
    config = model.config
    config.hidden_size = 32
    with pytest.raises(ValueError, match="another model: its weights have other shapes"):
        with_adapters(OlmoeForCausalLM(config), adapters)
    config.hidden_size, config.num_hidden_layers = 16, 2
    with pytest.raises(ValueError, match="another model: 6 of its weights have no counterpart"):
        with_adapters(OlmoeForCausalLM(config), adapters)
    config.num_hidden_layers = 4
    with pytest.raises(ValueError, match="another model: 6 of its weights have no counterpart"):
        with_adapters(OlmoeForCausalLM(config), adapters)
