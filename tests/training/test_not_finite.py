"""Training stops where a number is none: at the first such step, with the last good state and without a projection."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from t2d_export.model.projection import TextProjection
from t2d_runtime.errors import NotFiniteError
from training.__main__ import main
from training.config import TrainConfig
from training.drawing.scenes import draw_scene
from training.run.report import write_projection
from training.run.train import train
from training.run.trainer import Trainer
from training.small.model import SMALL_MODEL
from training.small.pretrain import Pretraining, collect, pretrain
from training.small.settings import PretrainSettings

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def config(small_features, tmp_path) -> TrainConfig:
    return TrainConfig(features=small_features, output=tmp_path / "run", epochs=3, batch_size=32, learning_rate=3e-3)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("array", "options", "owner"),
    [
        ("heads", {}, r"'heads' of image 70"),
        ("heads", {"selection": "sampled"}, r"'heads' of image 70"),
        ("heads", {"selection": "weighted_avg"}, r"'heads' of image 70"),
        ("cls", {"selection": "cls"}, r"'cls' of image 70"),
        ("text", {}, r"'text' of caption 130"),
        ("text_average", {"text_input": "average"}, r"'text_average' of caption 130"),
        ("tokens", {"text_input": "tokens", "selection": "nucleus"}, r"'tokens' of caption 10\d"),
        ("tokens", {"text_input": "tokens", "selection": "sum"}, r"'tokens' of caption 10\d"),
    ],
)
def test_a_feature_that_is_no_number_stops_the_first_epoch(config, spoiled, array, options, owner, value):
    config = dataclasses.replace(config, features=spoiled(array, value), **options)
    message = rf"epoch 1, batch \d of 8: .*{owner} in .*shard-00001.safetensors is not finite; .*\(nothing was saved\)"
    with pytest.raises(NotFiniteError, match=message):
        train(config)
    assert files(config.output) == []


def test_arrays_that_are_not_read_do_not_matter(config, spoiled):
    assert train(dataclasses.replace(config, features=spoiled("text_average", math.nan), epochs=1)).last_path.is_file()


def test_status_1_one_line_and_no_projection(config, spoiled, capsys):
    arguments = ["train", "--features", str(spoiled("heads", math.nan)), "--output", str(config.output)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("training: error: training stops without a projection: epoch 1, batch ")
    assert error.count("\n") == 1
    assert files(config.output) == []


def test_the_last_good_state_stays_and_is_gone_on_with(config, monkeypatch):
    """The second epoch's third loss is no number."""
    step, number = Trainer._step, iter(range(100))

    def failing(self, batch, *arguments):
        if next(number) == 8 + 2:
            batch = batch._replace(text=batch.text * math.nan)
        return step(self, batch, *arguments)

    monkeypatch.setattr(Trainer, "_step", failing)
    message = (
        r"epoch 2, batch 3 of 8: the loss is nan: the features are finite; .*checkpoint.safetensors holds epoch 1\)"
    )
    with pytest.raises(NotFiniteError, match=message):
        train(config)
    assert files(config.output) == ["checkpoint.safetensors"]
    monkeypatch.undo()
    whole = train(dataclasses.replace(config, output=config.output.with_name("whole"))).projection.state_dict()
    resumed = train(config).projection.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_gradient_that_is_no_number_is_not_stepped_with(config, monkeypatch):
    backward = torch.autograd.backward

    def spoilt(loss):
        backward(loss * math.inf)

    trainer = Trainer(config)
    monkeypatch.setattr(torch.autograd, "backward", spoilt)
    before = {name: value.clone() for name, value in trainer.projection.state_dict().items()}
    with pytest.raises(NotFiniteError, match=r"the length of the gradient is (nan|inf): the features are finite"):
        trainer._step(next(trainer.reader.epoch()), 32, 1e-3, torch.Generator())
    assert all(torch.equal(before[name], value) for name, value in trainer.projection.state_dict().items())


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_rate_that_blows_the_weights_up(config, rate):
    with pytest.raises(NotFiniteError, match="give a lower --learning-rate"):
        train(dataclasses.replace(config, learning_rate=rate, epochs=1, batch_size=250))
    assert files(config.output) == []


@pytest.mark.parametrize(("array", "value"), [("heads", math.nan), ("text", math.inf), ("average", math.inf)])
def test_validation_features(config, spoiled, array, value):
    with pytest.raises(NotFiniteError, match=rf"{array}' of (image 70|caption 130) in .* is not finite"):
        train(dataclasses.replace(config, validation=spoiled(array, value)))
    assert files(config.output) == []


@pytest.mark.parametrize(("array", "value"), [("heads", math.nan), ("text", math.inf)])
def test_retrieval_does_not_rank_what_is_no_number(spoiled, tmp_path, capsys, array, value):
    write_projection(tmp_path / "p.pth", TextProjection(24, 32))
    features = str(spoiled(array, value))
    assert main(["evaluate", "--features", features, "--projection", str(tmp_path / "p.pth")]) == 1
    assert f"'{array}'" in capsys.readouterr().err


def test_a_projection_that_is_no_number(small_features, tmp_path, capsys):
    projection = TextProjection(24, 32)
    torch.nn.init.constant_(projection.linear_layer.bias, math.nan)
    write_projection(tmp_path / "p.pth", projection)
    arguments = ["evaluate", "--features", str(small_features), "--projection", str(tmp_path / "p.pth")]
    assert main(arguments) == 2
    assert "'linear_layer.bias' holds values that are not finite" in capsys.readouterr().err


def test_all_processes_stop_at_the_same_step(config, spoiled):
    """One of two holds the bad feature. The loss is a number all the same, so that the gradients must tell both."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "training"]
    command += [
        "train",
        "--features",
        str(spoiled("text", math.inf)),
        "--output",
        str(config.output),
        "--batch-size",
        "32",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.count("training: error: training stops without a projection: epoch 1, batch ") == 1
    assert "'text' of caption 130" in done.stderr
    assert done.stderr.count("training: ") == 1  # no process was ended by another
    assert files(config.output) == []


def test_pretraining_of_the_small_model(monkeypatch):
    forward, number = Pretraining.forward, iter(range(100))
    monkeypatch.setattr(
        Pretraining, "forward", lambda self, batch: forward(self, batch) * (math.nan if next(number) >= 2 else 1)
    )
    data = collect((draw_scene(1, index) for index in range(4)), SMALL_MODEL.patch_size)
    settings = PretrainSettings(steps=3, batch_size=4, warmup_steps=1, full_share=0.34)
    with pytest.raises(NotFiniteError, match=r"pre-training, step 2: loss nan"):
        pretrain(SMALL_MODEL, settings, data, 0)
