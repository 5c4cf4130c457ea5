"""The main job on the embedded default: procedural sofas → voxels → training → novelty check → gallery → report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from gan3d_eval.files import in_shell
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.config import RECIPES
from gan3d_model.data.prepare import prepare
from gan3d_model.data.synthetic import write_furniture
from gan3d_model.data.voxelize import Voxelizer

__all__ = ["demo", "judge"]

JUDGED = ("nn-check", "compare", "curves", "gallery", "report")


def demo(
    out: Path, category: str, n_train: int, n_test: int, epochs: int, seed: int, command: list[str], say: Callable[[str], None]
) -> Path:
    """Run everything below `out` and return the path of `report.html`; data that is there already is used again."""
    from gan3d_model.runs import create_run
    from gan3d_model.train import Interrupted, train

    config = dataclasses.replace(RECIPES["demo"], epochs=epochs, seed=seed)
    name = f"{category}-{n_train}-{n_test}-s{seed}"
    meshes, dataset = out / "meshes" / name, out / "datasets" / name
    if not dataset.is_dir():
        say(f"1/4 making {n_train + n_test} {category}s as meshes and voxels")
        write_furniture(meshes, [category], n_train, n_test, seed, force=True)  # its own folder: an older version's
        prepare(meshes, dataset, Voxelizer(resolution=32), say=say)
    shapes = VoxelSet.open(dataset).select([category], "train")

    say(f"2/4 training for {epochs} epochs on {len(shapes)} shapes at 32³")
    run = create_run(config, "demo", shapes, dataset, [category], out / "runs", command)
    try:
        return judge(train(config, shapes, run, "auto", say), say)
    except (Interrupted, KeyboardInterrupt):
        rest = f"for verb in {' '.join(JUDGED)}; do python cli.py $verb {in_shell(run.path)}; done"
        say(f"what was made stays, and another demo begins a new run; what is left of this one, once it is trained: {rest}")
        raise


def judge(run: RunDir, say: Callable[[str], None]) -> Path:
    """What `JUDGED` names, of a run; where nothing can be drawn, everything that needs no picture."""
    from gan3d_eval.case import check_novelty, compare_sets, open_case
    from gan3d_eval.curves import curves
    from gan3d_eval.embedding import Embedding
    from gan3d_eval.gallery import gallery
    from gan3d_eval.render import RenderError
    from gan3d_eval.report import report
    from gan3d_model.features import extractor_of

    case, extractor = open_case(run.path), extractor_of(run)
    embed = Embedding.by(extractor) if extractor else None
    say("3/4 checking the samples against training and held-out shapes, and comparing them with real ones")
    check_novelty(case, say, embed=embed)
    compare_sets(case, say, embed=embed)
    run.write_result(curves(run))
    say("4/4 drawing")
    try:
        run.write_result(gallery(run, case.gen, case.train, case.test))
    except RenderError as fault:
        say(f"warning: no gallery: {fault}")
    return report([run])
