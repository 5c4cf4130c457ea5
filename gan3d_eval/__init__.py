"""Judge 3D-GANs from files: is it real, is it new, is it better? Never imports torch.

In three lines of Python (docs/bring-your-own-gan.md):

    import gan3d_eval
    verdict = gan3d_eval.judge(train, test, gen)
    print(verdict)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan3d_eval.api import Judgement, judge

__all__ = ["Judgement", "__version__", "judge"]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> Any:
    """`judge` and `Judgement`, whose imports take a second, when they are first asked for."""
    if name in {"judge", "Judgement"}:
        from gan3d_eval import api

        return getattr(api, name)
    raise AttributeError(f"module 'gan3d_eval' has no attribute {name!r}")
