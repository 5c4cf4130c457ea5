"""Features of shapes from a network that this package does not know: a name, a hash of the weights, and a function.

The command line makes one from a run's discriminator; anybody's network does as well:
`Embedding("my ResNet", sha256_of_its_weights, lambda shapes: features)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.cache import NO_CACHE, Cache
from gan3d_eval.feature_metrics import Projection
from gan3d_eval.files import Gan3dError
from gan3d_eval.voxels import VoxelSet

__all__ = ["NO_FEATURES", "Embedding"]

NO_FEATURES = "no discriminator at hand, or --no-features; --features-from takes that of another run"


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Shapes → features `(n, f) float32`. `sha256` stands for what a protocol says of them: the weights and how they are read.

    `version` stands for the programs that compute them.
    """

    name: str
    sha256: str
    function: Callable[[VoxelSet], NDArray[np.float32]]
    cache: Cache = NO_CACHE
    version: str = ""

    @classmethod
    def by(cls, extractor: Any, cache: Cache = NO_CACHE) -> Embedding:
        """By a network that has a `name`, `sha256` and `version`, and makes features with `of(shapes)`."""
        return cls(extractor.name, extractor.sha256, extractor.of, cache, extractor.version)

    @property
    def key(self) -> tuple[str, str]:
        """What everything in the cache that was made of features depends on."""
        return self.sha256, self.version

    def __call__(self, shapes: VoxelSet) -> NDArray[np.float32]:
        """Features of `shapes`, a row each; Gan3dError if the network returns something else, or NaN."""
        key = {"weights": self.key, "shapes": shapes.sha256}
        return self.cache.get("features", key, lambda: {"features": self._checked(shapes)})["features"]

    def _checked(self, shapes: VoxelSet) -> NDArray[np.float32]:
        features = self.function(shapes)
        if features.ndim != 2 or len(features) != len(shapes) or not np.isfinite(features).all():
            raise Gan3dError(
                f"{self.name} returned features of shape {features.shape}, or not all finite; expected ({len(shapes)}, f)"
            )
        return features

    def project(self, train: NDArray[np.float32], components: int) -> Projection:
        """The projection that training features `(n, f)` define; Gan3dError if they are all constant (a dead network)."""
        try:
            return Projection.fit(train, components)
        except ValueError as fault:
            raise Gan3dError(f"{self.name}: {fault}; --no-features judges without it") from None
