"""Mutation tests of the modules on which every number rests, on request: which changes of the code does no test notice?

    pip install cosmic-ray
    python tests/mutate.py losses -n 100

Draws n of the module's mutants (0 takes all) and runs the tests that are to kill them, in a copy of the checkout. Prints the
survivors, and the share that was killed with its Wilson interval. Operators are replaced by their nearest kin alone (+ by −,
× by ÷, < by ≤ …): whoever notices these notices the others. What only a type annotation says has no mutant.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
MODULES = {  # module → tests that are to notice
    "losses": ("gan3d_model/losses.py", "tests/test_losses.py"),
    "set_metrics": ("gan3d_eval/set_metrics.py", "tests/test_set_metrics.py"),
    "calibration": ("gan3d_eval/calibration.py", "tests/test_calibration.py"),
    "feature_metrics": ("gan3d_eval/feature_metrics.py", "tests/test_feature_metrics.py"),
    "draws": ("gan3d_eval/draws.py", "tests/test_draws.py"),
    "voxelize": ("gan3d_model/data/voxelize.py", "tests/test_voxelize.py"),
}
KIN = {
    "Add_Sub",
    "Sub_Add",
    "Mul_Div",
    "Div_Mul",
    "FloorDiv_Div",
    "Pow_Mul",
    "Mod_FloorDiv",
    "BitAnd_BitOr",
    "LShift_RShift",
    "RShift_LShift",
}
OTHERS = re.compile(
    r"NumberReplacer|ReplaceComparison|ReplaceUnary|ReplaceTrue|ReplaceFalse|ReplaceAnd|ReplaceOr|AddNot|Break|Continue|ZeroIter"
)
SECONDS = 180.0


def wanted(operator: str) -> bool:
    """Whether an operator of cosmic-ray is one of ours."""
    name = operator.split("/")[-1]
    if name.startswith("ReplaceBinaryOperator_"):
        return name.removeprefix("ReplaceBinaryOperator_") in KIN
    return bool(OTHERS.match(name))


def drawn(session: Path, n: int, seed: int) -> int:
    """Leave n of the wanted mutants in a session, and return how many wanted ones there were."""
    with sqlite3.connect(session) as base:
        specs = base.execute(
            "SELECT job_id, operator_name FROM mutation_specs ORDER BY start_pos_row, start_pos_col, operator_name, occurrence, job_id"
        )
        jobs = [job for job, operator in specs if wanted(operator)]
        kept = set(random.Random(seed).sample(jobs, min(n, len(jobs))) if n else jobs)
        every = [job for (job,) in base.execute("SELECT job_id FROM work_items")]
        gone = [(job,) for job in every if job not in kept]
        base.executemany("DELETE FROM mutation_specs WHERE job_id = ?", gone)
        base.executemany("DELETE FROM work_items WHERE job_id = ?", gone)
    return len(jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    module, tests = MODULES[given.module]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "gan3d"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        (copy / "c.toml").write_text(
            f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {SECONDS}\nexcluded-modules = []\n'
            f'test-command = "{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"\n[cosmic-ray.distributor]\nname = "local"\n'
        )
        env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}

        def ray(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "cosmic_ray.cli", *arguments], cwd=copy, env=env, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"cosmic-ray {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
            return done.stdout

        ray("baseline", "c.toml")
        ray("init", "c.toml", "s.sqlite")
        total = drawn(copy / "s.sqlite", given.n, given.seed)
        ray("exec", "c.toml", "s.sqlite")
        report([json.loads(line) for line in ray("dump", "s.sqlite").splitlines()], module, total)


def report(pairs: list[list[dict]], module: str, total: int) -> None:
    """Print the survivors and the score."""
    from gan3d_eval.provenance import wilson

    killed = 0
    for _, result in pairs:
        if result["test_outcome"] in ("TestOutcome.KILLED", "killed") or result["worker_outcome"] in (
            "timeout",
            "WorkerOutcome.TIMEOUT",
        ):
            killed += 1
        else:
            changed = [
                line for line in (result["diff"] or "").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
            ]
            print("survived:", *changed, sep="\n  ")
    share = wilson(killed, len(pairs))
    print(
        f"{module}: {killed} of {len(pairs)} drawn from {total} mutants killed: {killed / len(pairs):.2f} [{share['low']:.2f}, {share['high']:.2f}]"
    )


if __name__ == "__main__":
    main()
