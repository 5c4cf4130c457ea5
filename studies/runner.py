"""What a study declares, done: data sets, trainings and judgements through the command line, each thing once.

A run that was cut off is resumed; one that has all its results is left alone. Runs are spread over processes of this machine,
or over a Dask cluster whose workers see data sets and runs under the same paths.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed, parallel_config

from gan3d_eval.files import Gan3dError, write_json
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from studies.study import Study, Task

__all__ = ["command_of", "run", "toolkit"]

ROOT = Path(__file__).parents[1]


def run(
    study: Study, dataset: Path | None, scale: str, out: Path, jobs: int, say: Callable[[str], None],
    seeds: int | None = None, scheduler: str | None = None, known: pd.DataFrame | None = None,
) -> None:  # fmt: skip
    """Make what is not there yet, `jobs` runs at a time; Gan3dError if one fails, after all have ended.

    Parameters
    ----------
    dataset : Path or None
        None, and nothing else, for a study that makes all its data sets itself.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers then make the runs; `jobs` is how many share one machine.
    known : DataFrame, optional
        Rows (`cell`, `seed`) of runs that are known from elsewhere, and not made here.
    """
    if study.own_data and dataset:
        raise Gan3dError(f"{study.name} makes its data sets itself and takes none: python cli.py study run {study.name}")
    tasks = study.tasks(scale, dataset.resolve() if dataset else None, out.resolve(), seeds)
    elsewhere = set() if known is None else set(zip(known["cell"], known["seed"], strict=True))
    missing = [task for task in tasks if (task.label, task.seed) not in elsewhere and not task.done()]
    if missing and not study.own_data:
        VoxelSet.open(missing[0].given)  # one line now, not one a run
    say(f"{study.name} {scale}: {len(missing)} of {len(tasks)} runs to make")
    if study.data:  # before the runs, which share them
        for task in {task.seed: task for task in missing}.values():
            study.data(task)
    failed: dict[str, list[str]] = {}
    for task, fault in _each(missing, jobs, scheduler):
        say(f"{task.label}, seed {task.seed}: {fault or 'done'}")
        if fault:
            failed.setdefault(fault, []).append(f"{task.label}-s{task.seed}")
    if failed:
        n, reasons = sum(map(len, failed.values())), "; ".join(f"{', '.join(runs)}: {fault}" for fault, runs in failed.items())
        raise Gan3dError(f"{n} of {len(missing)} runs failed: {reasons}")


def _each(tasks: list[Task], jobs: int, scheduler: str | None) -> Iterator[tuple[Task, str]]:
    """Tasks with the reason of their failure, if any, as they end; from a cluster, once all have ended."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if scheduler:
        from gan3d_model.data.parts import spread_over

        with spread_over(scheduler) as spread:
            yield from spread(_work, tasks, threads)
    else:
        with parallel_config(backend="loky", inner_max_num_threads=threads):
            yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(_work)(task, threads) for task in tasks)


def _work(task: Task, shared: int) -> tuple[Task, str]:
    """Bring one run to its end, on `shared` threads; the task, and the reason if that fails."""
    try:
        if task.study.make:
            task.study.make(task)
        else:
            _train_and_judge(task, shared)
    except Gan3dError as fault:
        return task, str(fault)
    return task, ""


def _train_and_judge(task: Task, threads: int) -> None:
    """Train where that is not done, then judge; a training that had to go on is judged anew."""
    path, missing = task.path, list(task.study.verbs)
    if not path.exists():
        toolkit(command_of(task), threads)
    elif RunDir.open(path).meta["status"] != "finished":
        toolkit(["train", str(task.source), "--resume", str(path)], threads)
    else:
        missing = [name for name in missing if not (path / "results" / f"{name}.json").exists()]
    for name in missing:
        verb, *options = (part.format(dataset=task.dataset, data=task.data) for part in task.study.verbs[name])
        answer = toolkit([verb, str(path), *options, "--json"], threads)
        # A verb writes its result under its own name; one verb under several options needs several.
        write_json(path / "results" / f"{name}.json", json.loads(answer))


def command_of(task: Task) -> list[str]:
    """Arguments of the `train` that makes a run."""
    cell, scale = task.cell, task.study.scale(task.scale)
    classes = [cell.category] if cell.category else []
    epochs = math.ceil(cell.length * scale.seen / len(VoxelSet.open(task.source).select(classes, "train")))
    every = str(max(1, epochs // 10))
    width, seed = str(max(1, round(cell.width * scale.base_channels))), str(task.seed)
    return [
        "train", str(task.source), *[part for name in classes for part in ("--class", name)], "--recipe", cell.recipe,
        "--base-channels", width, "--epochs", str(epochs), "--n-samples", str(scale.n_samples), "--checkpoint-every", every,
        "--sample-every", every, "--keep", "1", "--seed", seed, *scale.options, *cell.options, "--out", str(task.path),
    ]  # fmt: skip


def toolkit(arguments: list[str], threads: int = 1) -> str:
    """Run a command of the toolkit and return its answer (stdout); Gan3dError with its last line of stderr if it fails."""
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], capture_output=True, text=True, env=env, check=False
    )
    if done.returncode:
        raise Gan3dError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].removeprefix("error: "))
    return done.stdout
