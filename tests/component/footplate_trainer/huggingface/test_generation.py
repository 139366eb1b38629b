"""Answers of the engine beside those of transformers, of the same weights and by the same rules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from footplate_planning.config import shape_of
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import GenerationRequest, StopRule
from footplate_trainer.generation.sampler import SamplingRule, sample_tokens
from footplate_trainer.huggingface.folder import ModelFolder
from footplate_trainer.huggingface.initial import folder_model
from footplate_trainer.huggingface.reader import FolderReader
from footplate_trainer.model.decoder import Decoder

VOCABULARY = 300
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64}


def opened(folder: Path) -> Decoder:
    model = folder_model(ModelFolder(str(folder)))
    decoder = Decoder(shape_of(model)).eval()
    reader = FolderReader(folder, model, [name for name, _ in decoder.named_parameters()])
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.copy_(reader.rows(name, parameter.shape, 0, parameter.shape[0]))
    return decoder


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("llama", SIZES, id="llama"),
        pytest.param("mistral", SIZES | {"sliding_window": 7}, id="window"),
        pytest.param("gpt2", GPT2, id="learned-positions"),
    ],
)
def test_the_most_likely_tokens_are_those_of_transformers(
    kind: str, settings: dict[str, int], tmp_path: Path
) -> None:
    torch.manual_seed(2)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    theirs.save_pretrained(tmp_path)
    theirs.generation_config.eos_token_id = None  # all twelve are compared
    beginning = list(range(20, 37))
    prompts = [[*beginning, 5], [*beginning, 6, 7], [9], [*range(100, 130)]]
    rule = SamplingRule(repetition_penalty=1.2, temperature=0)

    engine = Engine(opened(tmp_path), EngineLimits(blocks=20, block_size=4), rule, StopRule(), seed=0)
    answers = engine.answers(
        GenerationRequest(number, 0, prompt, 12) for number, prompt in enumerate(prompts)
    )

    found = {answer.request.prompt: answer.tokens for answer in answers}
    for number, prompt in enumerate(prompts):
        with torch.inference_mode():
            whole = theirs.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=12,
                do_sample=False,
                repetition_penalty=1.2,
                pad_token_id=0,
            )
        assert found[number] == whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(SamplingRule(repetition_penalty=1.3), id="penalty"),
        pytest.param(SamplingRule(temperature=0.6, top_k=20), id="top-k"),
        pytest.param(SamplingRule(temperature=1.7, top_p=0.8), id="top-p"),
        pytest.param(SamplingRule(min_p=0.05), id="min-p"),
        pytest.param(SamplingRule(0.9, 1.2, 100, 0.9, 0.02), id="all"),
    ],
)
def test_the_distribution_drawn_from_is_that_of_transformers(rule: SamplingRule) -> None:
    logits = 2 * torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1))
    before = torch.arange(0, 200, 3)[None]
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(rule.repetition_penalty)])
    processors.append(TemperatureLogitsWarper(rule.temperature))
    if rule.top_k:
        processors.append(TopKLogitsWarper(rule.top_k))
    if rule.top_p < 1:
        processors.append(TopPLogitsWarper(rule.top_p))
    if rule.min_p:
        processors.append(MinPLogitsWarper(rule.min_p))
    wanted = torch.log_softmax(processors(before, logits.clone()), -1)[0]

    # The middle of what each token that may be drawn is given of [0, 1), in the order of ids.
    shares = wanted.double().exp()
    allowed = shares.nonzero().squeeze(1)
    chance = (shares.cumsum(0) - shares / 2)[allowed]
    drawn = sample_tokens(logits.expand(len(allowed), -1), rule, [before[0].tolist()] * len(allowed), chance)

    assert torch.equal(drawn.tokens, allowed)
    torch.testing.assert_close(drawn.sampled, wanted[allowed], rtol=0, atol=2e-6)
