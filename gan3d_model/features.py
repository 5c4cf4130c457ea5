"""Shapes → what D's inner layers answer to them: features for a classifier (Wu et al. 2016, section 4.2).

At 64³ and base 64 they are the paper's: the responses of D's 2nd, 3rd and 4th convolution (128 × 16³, 256 × 8³, 512 × 4³),
max-pooled with kernels 8, 4 and 2 to 2³ each, and concatenated: 1,024 + 2,048 + 4,096 = 7,168 numbers. The analogue at other
resolutions is every convolution but the first, each pooled to 2³: 6,144 numbers at 32³, 4,096 at 16³.

The paper does not say where a response is read. Here it is what the next convolution sees: after batch normalisation and
LeakyReLU. Batch normalisation uses its running statistics, so that a shape's features depend on that shape alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import lzma
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gan3d_eval.run_dir import Gan3dError, RunDir, atomic_file
from gan3d_eval.voxels import VoxelSet, content_hash
from gan3d_model.batches import unpack_on_device
from gan3d_model.config import TrainConfig
from gan3d_model.device import pick_device
from gan3d_model.losses import stream
from gan3d_model.networks import BatchNorm, Discriminator
from gan3d_model.players import MissingPart, Players, check_weights, discriminator_for, load_part, open_checkpoint

__all__ = ["Extractor", "discriminator_of", "extractor_of", "untrained", "write_features"]

Pooling = Literal["max", "mean"]
PROTOCOL = "discriminator-features-1"  # change the computation, change the name: no hash of before stays valid
VOXELS_PER_BATCH, MOST_SHAPES = 2**20, 32  # a batch bounds the memory of one D forward at any resolution


@dataclasses.dataclass(frozen=True)
class Extractor:
    """Responses of some layers of one D (used where it is, not copied), each pooled to side³ and concatenated.

    Gan3dError, on construction, for layers, a side or a pooling that this D cannot have.
    """

    discriminator: Discriminator
    layers: tuple[int, ...] = ()
    """Which convolutions, counted from 1: a set, kept in ascending order. Empty takes all but the first."""
    side: int = 2
    """Pooling has kernel and stride size/side, so it divides the size of every chosen map; the deepest has `inner_size`³."""
    pooling: Pooling = "max"
    label: str = "D"
    """What `name` calls this D."""

    def __post_init__(self) -> None:
        known = range(1, len(self.discriminator.blocks) + 1)
        object.__setattr__(self, "layers", tuple(sorted(set(self.layers))) or tuple(known[1:]))
        if unknown := [layer for layer in self.layers if layer not in known]:
            raise Gan3dError(f"D at {self.resolution}³ has no layer {unknown[0]}; choose of {', '.join(map(str, known))}")
        size = self.resolution >> self.layers[-1]  # the smallest map; what divides it divides all, which are powers of 2
        if self.side < 1 or size % self.side:
            raise Gan3dError(f"layer {self.layers[-1]} has {size}³ and cannot be pooled to {self.side}³; choose a divisor")
        if self.pooling not in get_args(Pooling):
            raise Gan3dError(f"pooling {self.pooling!r} is unknown; choose one of {', '.join(get_args(Pooling))}")

    @property
    def resolution(self) -> int:
        """Voxels along each axis of what D sees: every block halves them, down to what the head sees."""
        return int(self.discriminator.head.kernel_size[0]) << len(self.discriminator.blocks)

    @property
    def dimension(self) -> int:
        """f, numbers per shape."""
        blocks = self.discriminator.blocks
        return sum(blocks[layer - 1][1].num_features for layer in self.layers) * self.side**3  # type: ignore[index]

    @property
    def name(self) -> str:
        """`D of step 500, layers 2 3, max to 2³`."""
        return f"{self.label}, layers {' '.join(map(str, self.layers))}, {self.pooling} to {self.side}³"

    @property
    def weights_sha256(self) -> str:
        """Hash of D's weights and buffers, by name, as they are now: equal on every device."""
        state = sorted(self.discriminator.state_dict().items())
        return content_hash(*(a for name, t in state for a in (np.array([name]), np.atleast_1d(t.cpu().numpy()))))

    @property
    def sha256(self) -> str:
        """Hash of all that the features of a shape depend on: weights, buffers, layers, side, pooling, protocol."""
        return content_hash(np.array([PROTOCOL, self.weights_sha256, str(self.layers), str(self.side), self.pooling]))

    @property
    def version(self) -> str:
        """Of the programs that compute features: this and the networks' source, and PyTorch's release."""
        here = Path(__file__).parent
        sources = b"".join((here / f"{name}.py").read_bytes() for name in ("features", "networks", "batches"))
        return f"{torch.__version__}-{hashlib.sha256(sources).hexdigest()[:16]}"

    def of(self, shapes: VoxelSet) -> NDArray[np.float32]:
        """Features `(n, f) float32` of n shapes, computed a batch at a time.

        Gan3dError for shapes of another resolution than D's, and features that are not finite (a training that diverged).
        """
        if shapes.resolution != self.resolution:
            raise Gan3dError(f"the shapes have resolution {shapes.resolution}, but D was made for {self.resolution}")
        # Batches of another size are summed in another order. So all have one size, the last filled up with empty grids: to
        # the bit, a feature depends on its shape alone.
        size = min(MOST_SHAPES, max(2, VOXELS_PER_BATCH // self.resolution**3))
        features = np.empty((len(shapes), self.dimension), np.float32)
        device, was_training = self.discriminator.head.weight.device, self.discriminator.training
        self.discriminator.eval()
        # TF32 would round the inputs of GPU convolutions to 10 bits: features would differ in their 4th digit
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for start in range(0, len(shapes), size):
                part = shapes.packed[start : start + size]
                packed = torch.from_numpy(np.pad(part, ((0, size - len(part)), (0, 0))))
                features[start : start + size] = self._responses(packed.to(device)).cpu().numpy()[: len(part)]
        self.discriminator.train(was_training)
        if bad := int((~np.isfinite(features).all(axis=1)).sum()):
            raise Gan3dError(f"{self.name}: features of {bad} of {len(shapes)} shapes are not finite; take another checkpoint")
        return features

    def _responses(self, packed: Tensor) -> Tensor:
        """Packed grids `(B, ⌈d³/8⌉) uint8` → `(B, f) float32`: layer after layer, channel after channel."""
        pool = functional.max_pool3d if self.pooling == "max" else functional.avg_pool3d
        maps, parts = unpack_on_device(packed, self.resolution)[:, None], []
        for number, layer in enumerate(itertools.islice(self.discriminator.blocks, self.layers[-1]), start=1):
            maps = layer(maps)
            if number in self.layers:
                parts.append(pool(maps, maps.shape[2] // self.side).flatten(1))
        return torch.cat(parts, dim=1)


def discriminator_of(run: RunDir, step: int | None = None, device: str = "auto") -> tuple[Discriminator, int]:
    """D of a checkpoint of `run` (None: the newest) and its step; CheckpointError for none, no D, or not its config's D."""
    place = pick_device(device)
    content, config, path = open_checkpoint(run, step, torch.device("cpu"))  # Adam's moments need not go to the GPU
    check_weights(discriminator_for, config, content, "discriminator", path)
    discriminator = discriminator_for(config)
    load_part(discriminator, content, "discriminator", path)
    placed = discriminator.to(device=place, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # as in training
    return cast(Discriminator, placed.eval()), int(content["step"])


def extractor_of(run: RunDir, step: int | None = None, device: str = "auto") -> Extractor | None:
    """The paper's features by D of a checkpoint of `run` (None: the newest), under a name that says which.

    None of a run that has no D: imported without weights, or with G's alone.
    """
    if not run.checkpoints():
        return None
    try:
        discriminator, found = discriminator_of(run, step, device)
    except MissingPart:
        return None
    return Extractor(discriminator, label=f"D of {run.path.resolve().name} at step {found}")


@torch.no_grad()
def untrained(config: TrainConfig, shapes: VoxelSet, seed: int, device: str = "auto", n: int = 256) -> Discriminator:
    """D as a training with `config` and `seed` begins it: the control that says what training adds to the features.

    The running statistics of a new network (mean 0, variance 1) belong to no data; with them the control would lose for
    another reason than its weights. So they are estimated on at most n of `shapes` (pass training shapes), drawn by `seed`,
    in batches no larger than in training.
    """
    if shapes.resolution != config.resolution or not len(shapes):
        raise Gan3dError(f"{len(shapes)} shapes at {shapes.resolution}³ given; expected some at {config.resolution}³")
    players = Players.build(dataclasses.replace(config, seed=seed), pick_device(device))
    discriminator = cast(Discriminator, players.discriminator).eval()  # so that spectral normalisation keeps its vectors
    for layer in discriminator.modules():
        if isinstance(layer, BatchNorm):
            layer.train()
            layer.momentum, layer.shared = None, False  # None: the mean over all batches, of which none is forgotten
    rows = torch.randperm(len(shapes), generator=stream(seed, "statistics"))[:n].numpy()  # not the first n: sets are sorted
    for batch in np.array_split(rows, -(-len(rows) // config.batch_size)):
        packed = torch.from_numpy(np.asarray(shapes.packed[batch]))
        discriminator.blocks(unpack_on_device(packed.to(players.device), config.resolution)[:, None])
    return discriminator.eval()


def write_features(run: RunDir, shapes: VoxelSet, extractor: Extractor, name: str) -> Path:
    """Write `features/<name>.npz` (RUN_DIR.md, rule 6), unless what stands there is of these shapes by this extractor.

    Beside the arrays of rule 6 it has `shapes_sha256`, `extractor_sha256` (of weights and options) and `extractor`, its name.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise Gan3dError(f"{name!r} is no name for features; expected letters, digits, - _ and . (a dataset's name)")
    if missing := sorted({"class", "split"} - set(shapes.table.columns)):
        raise Gan3dError(f"the shapes have no {' and no '.join(missing)}; features are written of a prepared dataset")
    columns = {"labels": shapes.table["class"], "names": shapes.table["name"], "split": shapes.table["split"]}
    facts: dict[str, NDArray[Any]] = {key: np.array([str(value) for value in column]) for key, column in columns.items()}
    facts |= {"layers": np.array(extractor.layers), "weights_sha256": np.array(extractor.weights_sha256)}
    facts |= {"shapes_sha256": np.array(shapes.sha256), "extractor_sha256": np.array(extractor.sha256)}
    facts["extractor"] = np.array(extractor.name)
    path = run.path / "features" / f"{name}.npz"
    if not _holds(path, facts, (len(shapes), extractor.dimension)):
        features = extractor.of(shapes)
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, features=features, **facts)
    return path


def _holds(path: Path, facts: dict[str, NDArray[Any]], shape: tuple[int, int]) -> bool:
    """Whether the features file at `path` is whole and has these facts and this shape; a damaged one does not."""
    try:
        with np.load(path, allow_pickle=False) as old:
            return all(np.array_equal(old[key], fact) for key, fact in facts.items()) and old["features"].shape == shape
    except (
        OSError, ValueError, TypeError, EOFError, LookupError, NotImplementedError,
        lzma.LZMAError, zipfile.BadZipFile, zlib.error,
    ):  # fmt: skip
        return False
