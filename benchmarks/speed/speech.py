# SPDX-License-Identifier: Apache-2.0
"""Steps of wav2vec 2.0 and Mockingjay beside transformers, fairseq2 and s3prl: from waveforms to updated weights."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...speech.frontend import frames
from ...speech.recipes import mockingjay, wav2vec2
from ...ssl.data import Dataset, Epoch, Item, collate
from ...ssl.recipe import Recipe
from ..extract import states
from .flops import encoder_flops, front_end_flops, step_flops
from .side import Setting, Side, Work, keys, objective_step, small, train_step

RATE = 16_000
_SMALL: dict[str, Any] = {  # transformers' names for what `small` sets
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}


def noise(seconds: tuple[float, float], rows: int, steps: int, sort: bool) -> list[list[Tensor]]:
    """Batches of clips, low + (high - low) x beta(2, 1.2) seconds long; with `sort`, of like length."""
    rng = np.random.default_rng(0)
    low, high = seconds
    samples = ((low + (high - low) * rng.beta(2, 1.2, rows * steps)) * RATE).astype(int)
    if sort:
        samples = rng.permutation(np.sort(samples).reshape(steps, rows)).reshape(-1)
    clips = [torch.from_numpy(rng.standard_normal(count, dtype=np.float32) * 0.1) for count in samples.tolist()]
    return [clips[i * rows : (i + 1) * rows] for i in range(steps)]


def seconds_of(clips: list[Tensor]) -> float:
    """Of all clips together."""
    return sum(map(len, clips)) / RATE


def _train(recipe: Recipe, setting: Setting, batches: list[list[Tensor]]) -> Side:
    objective = recipe.build().to(setting.device).train()

    def loss(number: int) -> Tensor:
        drawn = keys(number, len(batches[number])).tolist()
        batch = collate([Item(clip) for clip in batches[number]], drawn, ragged=True)
        return objective(batch.to(setting.device))["loss"]

    step = objective_step(loss, objective, recipe.optimizer, setting)
    flops = [step_flops(recipe, [len(clip) for clip in batch]) for batch in batches]
    return Side(step, [seconds_of(batch) for batch in batches], flops)


def _wav2vec2_batches(setting: Setting, sort: bool) -> list[list[Tensor]]:
    """Four clips of 4 to 16 s a step, the mean 11.5."""
    return noise((1.0, 4.0) if setting.small else (4.0, 16.0), setting.rows(4), setting.steps, sort)


def wav2vec2_ours(setting: Setting, sort: bool = False) -> Side:
    """The recipe speech/wav2vec2."""
    recipe = small(wav2vec2()) if setting.small else wav2vec2()
    return _train(recipe, setting, _wav2vec2_batches(setting, sort))


def wav2vec2_ours_sorted(setting: Setting) -> Side:
    """The same, clips of like length together."""
    return wav2vec2_ours(setting, sort=True)


def wav2vec2_transformers(setting: Setting) -> Side:
    """Wav2Vec2ForPreTraining with its own masks and negatives, as run_wav2vec2_pretraining_no_trainer.py calls it."""
    import transformers
    from transformers.models.wav2vec2 import modeling_wav2vec2 as module

    config = transformers.Wav2Vec2Config(
        layerdrop=0.05, mask_time_prob=0.65, activation_dropout=0.0, feat_quantizer_dropout=0.1,
        **(_SMALL if setting.small else {}),
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    model = transformers.Wav2Vec2ForPreTraining(config).train()
    nn.Module.to(model, setting.device)
    batches = _wav2vec2_batches(setting, sort=False)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)

    def loss(number: int) -> Tensor:
        clips: Any = [{"input_values": clip.numpy()} for clip in batches[number]]
        batch = extractor.pad(clips, padding="longest", return_tensors="pt")
        size = len(batches[number]), int(model._get_feat_extract_output_lengths(batch["input_values"].shape[1]))
        real = model._get_feature_vector_attention_mask(size[1], batch["attention_mask"])
        hidden = module._compute_mask_indices(size, config.mask_time_prob, config.mask_time_length, real)
        sampled = module._sample_negative_indices(size, config.num_negatives, mask_time_indices=hidden)
        out = model(
            batch["input_values"].to(setting.device),
            attention_mask=batch["attention_mask"].to(setting.device),
            mask_time_indices=torch.tensor(hidden, device=setting.device),
            sampled_negative_indices=torch.tensor(sampled, device=setting.device),
        )
        return out.loss / int(hidden.sum())

    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)
    step = train_step(loss, model, optimizer, float("inf"), setting)
    return Side(step, [seconds_of(batch) for batch in batches])


def wav2vec2_fairseq2(setting: Setting) -> Side:
    """fairseq2's model, loss and optimiser; as in its recipe, a batch's clips are cut to the shortest."""
    from fairseq2 import init_fairseq2
    from fairseq2.models.wav2vec2 import get_wav2vec2_model_hub
    from fairseq2.nn import BatchLayout

    init_fairseq2()
    hub = get_wav2vec2_model_hub()
    config = hub.get_arch_config("base")
    encoder = config.encoder_config
    encoder.first_pass_dropout_p = 0.1  # its recipe's base_960h.yaml
    if setting.small:
        encoder.model_dim, encoder.num_encoder_layers, encoder.num_encoder_attn_heads = 256, 4, 4
        encoder.ffn_inner_dim = 1024
    model = hub.create_new_model(config).to(setting.device).train()
    rng = np.random.default_rng(0)
    batches = []
    for batch in _wav2vec2_batches(setting, sort=True):
        shortest = min(map(len, batch))
        starts = [int(rng.integers(0, len(clip) - shortest + 1)) for clip in batch]
        batches.append([clip[start : start + shortest] for clip, start in zip(batch, starts, strict=True)])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, fused=True
    )

    def loss(number: int) -> Tensor:
        waves = torch.stack(batches[number]).to(setting.device)
        found, out = model(waves, BatchLayout.of(waves, None))
        return found.aggregate / out.num_targets

    step = train_step(loss, model, optimizer, None, setting)
    return Side(step, [seconds_of(batch) for batch in batches])


def _mockingjay_batches(setting: Setting) -> list[list[Tensor]]:
    """Eight clips of 4 to 15 s a step, of like length; s3prl would cut longer ones to 15 s."""
    return noise((1.0, 4.0) if setting.small else (4.0, 15.0), setting.rows(8), setting.steps, sort=True)


def mockingjay_ours(setting: Setting) -> Side:
    """The recipe speech/mockingjay."""
    recipe = small(mockingjay()) if setting.small else mockingjay()
    return _train(recipe, setting, _mockingjay_batches(setting))


def mockingjay_s3prl(setting: Setting) -> Side:
    """s3prl's features, masks, model and optimiser, with its own default settings."""
    from . import s3prl_as_it_was

    model, prepare, optimizer = s3prl_as_it_was.mockingjay(4 if setting.small else 3, 256 if setting.small else 768)
    model.to(setting.device).train()
    batches = _mockingjay_batches(setting)

    def loss(number: int) -> Tensor:
        return model(*(part.to(setting.device) for part in prepare(batches[number])))[0]

    step = train_step(loss, model, optimizer, 5.0, setting)
    return Side(step, [seconds_of(batch) for batch in batches])


class _Clips(Dataset):
    """Clips that are in memory."""

    unit = "seconds"
    ragged = True

    def __init__(self, clips: list[Tensor]) -> None:
        self.clips = clips

    def epoch(self, key: int) -> Epoch:
        return Epoch(np.arange(len(self.clips))[:, None], np.array([len(clip) / RATE for clip in self.clips]))

    def load(self, record: np.ndarray, key: int) -> Item:
        return Item(self.clips[int(record[0])])

    def name(self, record: np.ndarray) -> str:
        return str(int(record[0]))

    def save_assets(self, folder: Path) -> None:
        pass


def _states_batches(setting: Setting) -> list[list[Tensor]]:
    """64 clips of 2 to 16 s a step."""
    low, high, rows = (1.0, 4.0, 16) if setting.small else (2.0, 16.0, 64)
    return noise((low, high), rows, setting.steps, sort=False)


def states_ours(setting: Setting) -> Side:
    """What `pluri extract` does but for the reading and writing of files."""
    recipe = small(wav2vec2()) if setting.small else wav2vec2()
    backbone = recipe.backbone().to(setting.device).eval()
    if setting.compile:
        backbone.encoder.compile_blocks()
    batches = _states_batches(setting)
    whole = dataclasses.replace(recipe.encoder, layer_drop=0.0)
    flops = []
    for batch in batches:
        units, before = front_end_flops(recipe.front_end, [len(clip) for clip in batch])
        flops.append(before + encoder_flops(whole, units))

    def step(number: int) -> None:
        for item in states(backbone, _Clips(batches[number]), precision=setting.precision):
            assert len(item.layers) == whole.depth + 1

    return Side(step, [seconds_of(batch) for batch in batches], flops)


def states_transformers(setting: Setting) -> Side:
    """Wav2Vec2Model over padded batches of 8 in given order, each clip's states handed back without padding."""
    import transformers

    config = transformers.Wav2Vec2Config(**(_SMALL if setting.small else {}))
    config._attn_implementation = "sdpa"
    model = transformers.Wav2Vec2Model(config).eval()
    nn.Module.to(model, setting.device)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    batches = _states_batches(setting)

    @torch.inference_mode()
    def step(number: int) -> None:
        clips = batches[number]
        for start in range(0, len(clips), 8):
            some = [clip.numpy() for clip in clips[start : start + 8]]
            inputs = extractor(some, sampling_rate=RATE, padding="longest", return_tensors="pt").to(setting.device)
            with setting.autocast():
                layers = model(**inputs, output_hidden_states=True).hidden_states
            for row, clip in enumerate(some):
                count = frames(len(clip))
                rows = torch.stack([layer[row, :count] for layer in layers]).float().cpu().numpy()
                assert len(rows) == config.num_hidden_layers + 1

    return Side(step, [seconds_of(batch) for batch in batches])


WORKS = (
    Work(
        "wav2vec2",
        "speech",
        "transformers",
        "seconds",
        ("transformers",),
        wav2vec2_ours,
        wav2vec2_transformers,
        quick=True,
    ),
    Work("wav2vec2_sorted", "speech", "fairseq2", "seconds", ("fairseq2",), wav2vec2_ours_sorted, wav2vec2_fairseq2),
    Work("mockingjay", "speech", "s3prl", "seconds", ("s3prl",), mockingjay_ours, mockingjay_s3prl, quick=True),
    Work(
        "states", "speech", "transformers", "seconds", ("transformers",), states_ours, states_transformers, quick=True
    ),
)
