"""One dataclass: it round-trips, refuses what is out of range, and names the nearest setting to a misspelt one."""

from __future__ import annotations

import dataclasses
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan3d_model.config import RECIPES, ConfigError, TrainConfig, load_toml


@pytest.mark.parametrize("name", RECIPES)
def test_config_json_round_trips_to_an_equal_config(name):
    assert TrainConfig.from_dict(json.loads(json.dumps(RECIPES[name].to_dict()))) == RECIPES[name]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(["uniform", "normal"]))
def test_any_valid_config_round_trips(seed, gate, prior):
    config = TrainConfig(seed=seed, gate=gate, prior=prior)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_papers_numbers():
    paper = RECIPES["paper"]
    assert (paper.resolution, paper.base_channels, paper.latent_dim, paper.prior) == (64, 64, 200, "uniform")
    assert (paper.batch_size, paper.lr_g, paper.lr_d, paper.beta1, paper.gate) == (100, 0.0025, 1e-5, 0.5, 0.8)
    assert (paper.real_low, paper.real_high, paper.fake_low, paper.fake_high, paper.lr_schedule) == (1, 1, 0, 0, "constant")


def test_the_slides_numbers():
    slides = RECIPES["slides"]
    assert (slides.real_low, slides.real_high, slides.fake_low, slides.fake_high) == (0.7, 1.2, 0, 0.3)
    assert (slides.batch_size, slides.gate, slides.resolution) == (32, 0.8, 64)


@pytest.mark.parametrize(
    ("typo", "meant"), [("lr-g", "lr_g"), ("batchsize", "batch_size"), ("epoch", "epochs"), ("gates", "gate")]
)
def test_an_unknown_setting_names_the_nearest_valid_one(typo, meant):
    with pytest.raises(ConfigError, match=f"file: unknown setting '{typo}'.*'{meant}'"):
        TrainConfig.from_dict({typo: 1}, "file")


@pytest.mark.parametrize(("values", "message"), [
    ({"resolution": 48}, "48; expected one of 16, 32, 64, 128"),
    ({"resolution": 64.0}, r"64\.0; expected one of"),
    ({"inner_size": 3}, "inner_size is 3; expected one of 2, 4"),
    ({"base_channels": 0}, r"base_channels is 0; expected int in \[1, 1,024\]"),
    ({"lr_g": float("nan")}, "lr_g is nan"),
    ({"lr_g": "0.1"}, "lr_g is '0.1'"),
    ({"epochs": 1.5}, "epochs is 1.5"),
    ({"epochs": True}, "epochs is True"),
    ({"prior": "gauss"}, "prior is 'gauss'; expected one of uniform, normal"),
    ({"real_low": 1.3}, "real_low 1.3 is above real_high 1.2"),
    ({"gate": 1.5}, "gate is 1.5"),
])  # fmt: skip
def test_a_value_out_of_range_names_field_value_and_range(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(values)


def test_every_field_says_what_it_is():
    for field in dataclasses.fields(TrainConfig):
        assert len(field.metadata["doc"]) > 10, field.name


def test_differences_list_what_changed_but_not_what_may_change_on_resume():
    old = TrainConfig()
    new = dataclasses.replace(old, epochs=7, keep=9, lr_g=0.1)
    assert old.differences(new) == ["lr_g: 0.0025 → 0.1"]


def test_toml_is_read_and_a_broken_one_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("epochs = 3\nprior = 'uniform'\n")
    assert load_toml(path) == tomllib.loads(path.read_text())
    path.write_text("epochs = ")
    with pytest.raises(ConfigError, match=r"c\.toml"):
        load_toml(path)
