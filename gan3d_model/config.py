"""TrainConfig: every number of a training run, its unit, its range and where it comes from; and the recipes.

The dataclass is the single source: the command-line options, `config.json` and `--config FILE.toml` are made from it.

Sources: *paper* = Wu et al. 2016 (arXiv 1610.07584), read off the authors' Torch release; *slides* = the student project
"Training of a 3D GAN", which reproduced it in PyTorch on ModelNet10.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import typing
from pathlib import Path
from typing import Any, Literal

from gan3d_eval.run_dir import Gan3dError

__all__ = ["RECIPES", "RESOLUTIONS", "ConfigError", "Precision", "TrainConfig", "load_toml"]

Resolution = Literal[16, 32, 64, 128]
InnerSize = Literal[2, 4]
RESOLUTIONS, INNER_SIZES = typing.get_args(Resolution), typing.get_args(InnerSize)
Prior = Literal["uniform", "normal", "normal0.33", "unknown"]
Schedule = Literal["constant", "step", "cosine"]
Init = Literal["torch", "normal0.02"]
Precision = Literal["auto", "float32", "bfloat16"]


class ConfigError(Gan3dError):
    """A setting that does not exist or has a value outside its range."""


def setting(default: Any, doc: str, low: float = -math.inf, high: float = math.inf, free: bool = False) -> Any:
    """A field with its help text and closed range; `free` marks what may change when a run is resumed."""
    return dataclasses.field(default=default, metadata={"doc": doc, "low": low, "high": high, "free": free})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All hyper-parameters of one run. The defaults are the `slides` recipe.

    Raises
    ------
    ConfigError
        On construction, for a value outside its range, naming field, value and range.
    """

    resolution: Resolution = setting(64, "voxels along each axis; by default the dataset's [paper: 64]")
    base_channels: int = setting(64, "D's feature maps at 32³; twice as many at 16³, four times at 8³ … [paper: 64]", 1, 1024)
    latent_dim: int = setting(200, "dimension of z [paper: 200]", 1, 4096)
    inner_size: InnerSize = setting(4, "side of G's first map and D's last [paper: 4; slides' code at 32³: 2]")
    last_bias: bool = setting(False, "a bias in the last layer of G and of D [some ports; paper: none]")
    prior: Prior = setting("normal0.33", "law of each z: U[0,1] [paper], N(0,1), or N(0, 0.33²) [slides]")

    epochs: int = setting(500, "passes over the training shapes [slides: 500 for sofas]", 1, 10**6, free=True)
    batch_size: int = setting(32, "shapes per step [paper: 100, slides: 32]", 2, 4096)
    lr_g: float = setting(2.5e-3, "Adam learning rate of G [paper: 0.0025]", 1e-9, 1)
    lr_d: float = setting(1e-3, "Adam learning rate of D [paper: 1e-5; the slides' code: 1e-3]", 0, 1)
    beta1: float = setting(0.5, "Adam β₁ [paper: 0.5]", 0, 0.9999)
    beta2: float = setting(0.5, "Adam β₂ [slides' code: 0.5; Torch's default, so the paper's: 0.999]", 0, 0.999999)
    lr_schedule: Schedule = setting("step", "constant [paper]; step: × lr_decay after each lr_step of training; cosine to 0")
    lr_step: float = setting(0.5, "share of training between two decays of the step schedule", 0.01, 1)
    lr_decay: float = setting(0.5, "factor of one decay", 0, 1)

    gate: float = setting(0.8, "D is updated only while its batch accuracy is at most this; 1 = always [paper: 0.8]", 0, 1)
    gate_window: int = setting(1, "batches over which the gate's accuracy is averaged, this one the last [paper: 1]", 1, 10**6)
    real_low: float = setting(0.7, "lower end of D's labels for real shapes [slides: 0.7; paper: 1]", 0, 2)
    real_high: float = setting(1.2, "upper end of D's labels for real shapes [slides: 1.2; paper: 1]", 0, 2)
    fake_low: float = setting(0.0, "lower end of D's labels for generated shapes [both: 0]", -1, 1)
    fake_high: float = setting(0.3, "upper end of D's labels for generated shapes [slides: 0.3; paper: 0]", -1, 1)
    label_anneal: float = setting(
        0.0, "share of training after which D's labels have moved to 1 and 0 [slides' idea]; 0 = they stay", 0, 1
    )
    r1: float = setting(0.0, "weight γ of the penalty on D's gradient at real shapes [Mescheder et al. 2018, R1]", 0, 10**6)
    r1_every: int = setting(4, "steps from one penalty to the next, which counts for all [StyleGAN2, lazy: 16]", 1, 10**6)
    spectral_norm: bool = setting(False, "divide D's weights by their largest singular value [Miyato et al. 2018]")
    instance_noise: float = setting(0.0, "noise on what D sees: its σ, falling to 0 in training [Sønderby et al. 2017]", 0, 10)
    mirror: bool = setting(False, "D sees real and generated shapes mirrored half of the time [Zhao et al. 2020]")
    shift: int = setting(0, "D sees both moved by up to so many voxels along each axis [Zhao et al. 2020: an eighth]", 0, 64)
    cutout: float = setting(0.0, "D sees both without a cube of this share of the side [Zhao et al. 2020: 0.5]", 0, 0.9)
    init: Init = setting("torch", "weights at the start: PyTorch's default, or N(0, 0.02²) [Radford et al. 2016, DCGAN]")
    ema: float = setting(
        0.0, "decay per step of the average of G's weights that is sampled from; 0 = G itself [paper]", 0, 0.99999
    )

    seed: int = setting(0, "root of every random stream: same CPU, threads and seed: same bytes", 0, 2**32 - 1)
    sync_batch_norm: bool = setting(
        True, "several processes share the statistics of batch normalisation, and train as one would"
    )
    precision: Precision = setting("auto", "auto: bfloat16 where it is faster (GPUs, AMX, AMD's AVX-512), else float32")
    checkpoint_every: int = setting(10, "epochs between checkpoints", 1, 10**6, free=True)
    sample_every: int = setting(10, "epochs between samples at fixed latents", 1, 10**6, free=True)
    keep: int = setting(10, "newest checkpoints kept; 0 keeps all", 0, 10**6, free=True)
    n_samples: int = setting(1000, "shapes in samples/final.npz, the evaluation set", 1, 10**6, free=True)

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            self._check(field, hints[field.name])
        if self.shift > self.resolution // 4:
            raise ConfigError(f"shift {self.shift} moves shapes out of {self.resolution}³; at most {self.resolution // 4}")
        for low, high in (("real_low", "real_high"), ("fake_low", "fake_high")):
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(f"{low} {getattr(self, low)} is above {high} {getattr(self, high)}")

    def _check(self, field: dataclasses.Field[Any], kind: Any) -> None:
        """Refuse a value of the wrong type or outside the field's range; 1 is accepted for 1.0."""
        value, choices = getattr(self, field.name), typing.get_args(kind)
        if choices:
            if value not in choices or type(value) is not type(choices[0]):  # 64.0 and True are equal to numbers
                raise ConfigError(f"{field.name} is {value!r}; expected one of {', '.join(map(str, choices))}")
            return
        if kind is float and type(value) is int:
            object.__setattr__(self, field.name, value := float(value))
        if kind is bool and type(value) is not bool:
            raise ConfigError(f"{field.name} is {value!r}; expected true or false")
        low, high = field.metadata["low"], field.metadata["high"]
        if type(value) is not kind or not low <= value <= high:  # NaN fails the comparison as well
            raise ConfigError(f"{field.name} is {value!r}; expected {kind.__name__} in [{low:,.10g}, {high:,.10g}]")

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "config", base: TrainConfig | None = None) -> TrainConfig:
        """Build a config from plain values over `base` (the defaults, if None).

        Raises
        ------
        ConfigError
            An unknown key (the nearest valid one is named) or a value out of range.
        """
        valid = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in valid:
                near = difflib.get_close_matches(str(key), valid, n=1, cutoff=0.0)
                raise ConfigError(f"{where}: unknown setting {key!r}; the nearest valid one is {near[0]!r}")
        try:
            return dataclasses.replace(base or cls(), **values)
        except ConfigError as fault:
            raise ConfigError(f"{where}: {fault}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in `config.json`; `from_dict` gives back an equal config."""
        return dataclasses.asdict(self)

    def differences(self, other: TrainConfig) -> list[str]:
        """Settings in which `other` differs, as `name: ours → theirs`, but for those that may change on resume."""
        return [
            f"{field.name}: {getattr(self, field.name)!r} → {getattr(other, field.name)!r}"
            for field in dataclasses.fields(self)
            if not field.metadata["free"] and getattr(self, field.name) != getattr(other, field.name)
        ]


def load_toml(path: Path) -> dict[str, Any]:
    """Read a flat TOML file of settings; ConfigError if it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; expected a TOML file of settings, as in: epochs = 200") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path}: cannot be read as TOML: {fault}") from None


# Differs from paper (slides): label smoothing, batch 32, D's learning rate, prior and β₂ as in the slides' code. The slides
# name a learning-rate scheduler without its figures, so the halving at half time is ours.
RECIPES: dict[str, TrainConfig] = {
    "slides": TrainConfig(),
    # Batch, optimiser, gate and prior: the authors' main.lua. Epochs are not stated anywhere; 500 is the slides' figure.
    "paper": TrainConfig(
        prior="uniform",
        batch_size=100,
        lr_d=1e-5,
        beta2=0.999,
        lr_schedule="constant",
        real_low=1.0,
        real_high=1.0,
        fake_low=0.0,
        fake_high=0.0,
    ),
    # `stable`: no gate that could lock and no soft labels; R1 keeps D from running away (Mescheder et al. 2018: γ = 1 … 10),
    # both players learn at one slow rate, in many small steps, and the average of G is sampled from. Chosen on dressers and
    # monitors at 32³ (BENCHMARKS.md, "Ingredients").
    "stable": TrainConfig(
        batch_size=16,
        lr_g=1e-3,
        lr_d=1e-3,
        beta2=0.99,
        lr_schedule="constant",
        gate=1.0,
        real_low=1.0,
        real_high=1.0,
        fake_high=0.0,
        r1=2.0,
        r1_every=4,
        ema=0.998,
    ),
    # `demo`: the slides' recipe shrunk to minutes of CPU. Averaging G's weights is the cheapest large gain we measured.
    "demo": TrainConfig(
        resolution=32, base_channels=16, epochs=60, batch_size=16, ema=0.99, checkpoint_every=20, sample_every=5, n_samples=200
    ),
}
