"""Models that transformers wrote are read, compute the same, and are written back bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from footplate_contracts.v1alpha1.model import Model
from footplate_planning.config import shape_of
from footplate_trainer.errors import UserMistake
from footplate_trainer.huggingface.folder import ModelFolder
from footplate_trainer.huggingface.initial import check_rules, folder_model
from footplate_trainer.huggingface.reader import FolderReader
from footplate_trainer.huggingface.writer import write_folder
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.network_factory import build_network

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
T5 = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_heads": 4,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
}
GPT2 = {"vocab_size": 99, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 32}


@dataclass(frozen=True)
class Case:
    """A model of transformers."""

    kind: str
    opener: Any
    settings: Mapping[str, Any]

    def random(self) -> Any:
        config = AutoConfig.for_model(self.kind, **self.settings)
        model = self.opener.from_config(config).eval()
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.1, generator=generator)
                else:
                    parameter.uniform_(0.5, 1.5, generator=generator)
        return model


LLAMA = Case("llama", AutoModelForCausalLM, SIZES | {"num_key_value_heads": 2, "rope_parameters": ROPE})
GPT = Case("gpt2", AutoModelForCausalLM, GPT2)
CASES = [
    pytest.param(LLAMA, id="llama-3.1"),
    pytest.param(
        Case(
            "llama", AutoModelForCausalLM, SIZES | {"attention_bias": True, "mlp_bias": True, "head_dim": 16}
        ),
        id="llama-with-biases",
    ),
    pytest.param(
        Case("mistral", AutoModelForCausalLM, SIZES | {"num_key_value_heads": 1, "sliding_window": 5}),
        id="mistral",
    ),
    pytest.param(
        Case("qwen2", AutoModelForCausalLM, SIZES | {"num_key_value_heads": 2, "tie_word_embeddings": True}),
        id="qwen2",
    ),
    pytest.param(GPT, id="gpt2"),
    pytest.param(Case("bert", AutoModelForMaskedLM, SIZES), id="bert"),
    pytest.param(Case("t5", AutoModelForSeq2SeqLM, T5), id="t5"),
    pytest.param(
        Case(
            "t5",
            AutoModelForSeq2SeqLM,
            T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        ),
        id="t5-1.1",
    ),
]


def tokens(length: int = 24, seed: int = 1) -> Tensor:
    return torch.randint(99, (2, length), generator=torch.Generator().manual_seed(seed))


def opened(folder: Path) -> tuple[TransformerNetwork, Model]:
    model = folder_model(ModelFolder(str(folder)))
    network = build_network(shape_of(model)).eval()
    reader = FolderReader(folder, model, [name for name, _ in network.named_parameters()])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(reader.rows(name, parameter.shape, 0, parameter.shape[0]))
    return network, model


def logits_of(model: Any) -> Tensor:
    more = {"decoder_input_ids": tokens(17, 2)} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        answer: Tensor = model(tokens(), **more).logits
    return answer


def our_logits(network: TransformerNetwork) -> Tensor:
    with torch.inference_mode():
        answer: Tensor = network(tokens(), decoder_tokens=tokens(17, 2))
    return answer


def write(folder: Path, network: TransformerNetwork, model: Model, **limits: int) -> None:
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    sizes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}

    def load(names: Sequence[str]) -> Mapping[str, Tensor]:
        return {name: parameters[name] for name in names}

    write_folder(folder, model, sizes, load, tokenizer=None, **limits)


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_model_goes_in_and_out(tmp_path: Path, case: Case) -> None:
    theirs = case.random()
    theirs.save_pretrained(tmp_path / "in")
    network, model = opened(tmp_path / "in")
    assert shape_of(model).parameters == sum(parameter.numel() for parameter in network.parameters())

    difference = (our_logits(network) - logits_of(theirs)).abs().max().item()
    assert difference <= 1e-5

    write(tmp_path / "out", network, model)
    before, after = tensors(tmp_path / "in"), tensors(tmp_path / "out")
    added = {"lm_head.weight"} if case.settings.get("feed_forward_proj") == "gated-gelu" else set()
    assert after.keys() - before.keys() == added, "what transformers ties, a T5 1.1 has apart"
    assert before.keys() <= after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

    again, problems = case.opener.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(problems.values())
    torch.testing.assert_close(logits_of(again.eval()), logits_of(theirs), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "opener", "settings"),
    [
        pytest.param("gpt2", AutoModelForCausalLM, {}, id="gpt2-small"),
        pytest.param("bert", AutoModelForMaskedLM, {}, id="bert-base"),
        pytest.param("t5", AutoModelForSeq2SeqLM, {}, id="t5-small"),
        pytest.param("llama", AutoModelForCausalLM, {}, id="llama-7b"),
    ],
)
def test_parameters_are_counted_as_transformers_has_them(
    tmp_path: Path, kind: str, opener: Any, settings: dict[str, Any]
) -> None:
    config = AutoConfig.for_model(kind, **settings)
    with torch.device("meta"):
        theirs = opener.from_config(config)
    config.save_pretrained(tmp_path)

    count = shape_of(folder_model(ModelFolder(str(tmp_path)))).parameters

    assert count == sum(parameter.numel() for parameter in theirs.parameters())


def test_a_model_may_be_spread_over_files(tmp_path: Path) -> None:
    GPT.random().save_pretrained(tmp_path / "in")
    network, model = opened(tmp_path / "in")

    write(tmp_path / "out", network, model, shard_bytes=20_000)

    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    again, _ = opened(tmp_path / "out")
    assert torch.equal(our_logits(again), our_logits(network))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logits_of(theirs), our_logits(network), rtol=0, atol=1e-5)


def test_rows_are_those_of_the_whole(tmp_path: Path) -> None:
    GPT.random().save_pretrained(tmp_path)
    network, model = opened(tmp_path)
    reader = FolderReader(tmp_path, model, [name for name, _ in network.named_parameters()])

    for name in ("blocks.1.attention.value.weight", "blocks.0.attention.key.bias", "embedding.weight"):
        whole = network.get_parameter(name)
        assert torch.equal(reader.rows(name, whole.shape, 5, 11), whole[5:16]), name
        assert reader.rows(name, whole.shape, 5, 0).shape[0] == 0


def test_the_model_without_its_head_has_shorter_names(tmp_path: Path) -> None:
    theirs = GPT.random()
    theirs.transformer.save_pretrained(tmp_path)

    network, _ = opened(tmp_path)

    assert (our_logits(network) - logits_of(theirs)).abs().max().item() <= 1e-5


def spoil(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    file = folder / "model.safetensors"
    stored = load_file(file)
    change(stored)
    save_file(stored, file)


def test_missing_and_surplus_tensors_are_listed(tmp_path: Path) -> None:
    LLAMA.random().save_pretrained(tmp_path)

    def change(stored: dict[str, Tensor]) -> None:
        del stored["model.norm.weight"]
        stored["model.layers.0.self_attn.q_norm.weight"] = torch.ones(8)

    spoil(tmp_path, change)

    with pytest.raises(UserMistake) as refused:
        opened(tmp_path)
    assert str(refused.value).endswith(
        "missing: model.norm.weight; surplus: model.layers.0.self_attn.q_norm.weight"
    )


def lose(file: Path) -> None:
    file.unlink()


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def leave_a_pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 98304\n")


@pytest.mark.parametrize(
    ("file", "harm", "complaint"),
    [
        pytest.param("model-00002", lose, r"lists files that are missing: model-00002-of-", id="lost"),
        pytest.param("model-00002", cut_off, r"model-00002-of-\S+ is not a safetensors", id="cut-off"),
        pytest.param("model-00002", leave_a_pointer, r"is not a safetensors", id="pointer"),
        pytest.param(
            "model.safetensors.index", cut_off, r"index\.json is not a safetensors index", id="index-cut-off"
        ),
    ],
)
def test_a_folder_that_was_half_copied_is_refused(
    tmp_path: Path, file: str, harm: Callable[[Path], None], complaint: str
) -> None:
    LLAMA.random().save_pretrained(tmp_path, max_shard_size="20KB")
    harm(next(tmp_path.glob(f"{file}*")))

    with pytest.raises(UserMistake, match=complaint):
        opened(tmp_path)


def test_a_tensor_of_another_size_is_refused(tmp_path: Path) -> None:
    LLAMA.random().save_pretrained(tmp_path)
    spoil(tmp_path, lambda stored: stored.update({"model.norm.weight": torch.ones(31)}))

    with pytest.raises(UserMistake, match=r"model\.norm\.weight .* has the shape \[31\], but .* \[32\]"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        pytest.param({"model_type": "mamba"}, "model_type 'mamba' is not one of llama, ", id="family"),
        pytest.param({"hidden_act": "relu"}, "hidden_act 'relu' is not one of silu", id="activation"),
        pytest.param(
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
            "rope_type 'yarn' is not one of default, llama3",
            id="rope",
        ),
        pytest.param({"vocab_size": None}, "vocab_size", id="no-vocabulary"),
        pytest.param({"rope_parameters": 5}, "the type of a setting differs", id="another-type"),
    ],
)
def test_another_network_is_refused_by_name(tmp_path: Path, settings: dict[str, Any], complaint: str) -> None:
    LLAMA.random().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    with pytest.raises(UserMistake, match=complaint):
        folder_model(ModelFolder(str(tmp_path)))


def test_heads_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    LLAMA.random().save_pretrained(tmp_path)
    model = folder_model(ModelFolder(str(tmp_path)))
    check_rules(ModelFolder(str(tmp_path)), model)

    with pytest.raises(
        UserMistake, match=r"config\.json: attentionHeads 4 is not a multiple of keyValueHeads 3"
    ):
        check_rules(ModelFolder(str(tmp_path)), model.model_copy(update={"key_value_heads": 3}))


def test_a_config_that_is_no_object_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")

    with pytest.raises(UserMistake, match=r"config\.json: is a list; must be an object of settings"):
        folder_model(ModelFolder(str(tmp_path)))


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    LLAMA.random().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])

    with pytest.raises(UserMistake, match=r"model\.safetensors is not a safetensors file"):
        opened(tmp_path)
