"""One self-contained HTML page of what is known about a run. Reads results and pictures; computes nothing.

A part that was not made yet says which command makes it. The page loads nothing from anywhere: its content security
policy forbids it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jinja2

from gan3d_eval.canaries import CANARIES
from gan3d_eval.files import atomic_file
from gan3d_eval.provenance import variants
from gan3d_eval.run_dir import RunDir

__all__ = ["report"]

# verb, title, folder of its pictures, what it shows and how to read it
SECTIONS = (
    ("gallery", "Gallery", "gallery", """
Shapes as they were drawn, by a rule stated above each sheet: nothing is picked by hand and nothing is cleaned up."""),
    ("nn-check", "Nearest-neighbour check", "figures", """
Does G copy its training shapes? Each sample's distance to the nearest training shape is set against the same distance of
held-out shapes, which G never saw: under L1 and Jaccard, in place, over every shift and turn (aligned), and with both shapes
peeled to equal size, which finds thickened and noisy copies. An honest sampler is as far away as they are: A near 0.5, and 5 %
of its samples nearer than 95 % of the held-out shapes. Far more, or exact copies, speak of copying. A well above 0.5 means
unlike the data: look at the shapes before calling it novel. Canaries are copies made on purpose: what the check does not flag
of them it would not see in the samples either."""),
    ("compare", "Generated against real", "figures", """
Each measure is taken of equally many generated shapes, real (training) shapes, copies of the mean
shape, and noise, against the same held-out shapes. Read a value beside the one of real shapes: that is what a perfect generator
reaches, and a copying one too, which these measures cannot see."""),
    ("classify-features", "What D knows", "figures", """
A linear machine on D's features, which were learned without labels. Beside it the same machine on discriminators that never
trained, on the voxels themselves, pooled, and with shuffled labels: the gain over these is what training brought."""),
    ("history", "Over training", "figures", """
The same measures at every checkpoint, of equally many shapes. The best one is chosen by the rule below the table, on held-out
shapes: a choice among many flatters the chosen."""),
    ("threshold-sweep", "Threshold", "figures", """
The same samples, occupied where G's probability is above other thresholds. A sharp generator does not care."""),
    ("curves", "Training curves", "figures", """
Means over the last tenth of training. D learns only while its accuracy is at most the gate, so its share of updates tells
how far ahead of G it is; a D that is never updated, beside a G whose occupancy leaves the data's, is a deadlock."""),
)  # fmt: skip
OPTIONAL = ("classify-features", "history", "threshold-sweep")
"""Sections that are left out where nothing was made."""
LABELS = {
    "n": "Samples",
    "n_judged": "Samples judged",
    "n_train": "Training shapes",
    "n_null": "Held-out shapes in the null",
    "null": "Null",
    "empty": "Empty samples",
    "too_small": "Samples too small to judge",
    "exact_copies": "Exact copies",
    "smallest_volume": "Smallest volume judged (voxels)",
    "null_in_train": "Held-out shapes that stand in training too",
    "null_too_small": "Held-out shapes too small",
    "repeats": "Samples that repeat another one exactly",
    "verdict": "Verdict",
    "median": "Median distance to training",
    "null_median": "The same of held-out shapes",
    "authentic": "Farther from the neighbour than that from its own (AuthPct, L1)",
    "authentic_null": "The same of held-out shapes",
    "c_t": "C_T by cells, L1 (far below 0: copying)",
    **{f"caught_{name}": f"Canaries flagged: {name}" for name in CANARIES},
    **{f"a_{name}": f"A of canaries: {name}" for name in CANARIES},
    "l1_share_median": "Median L1 to training, as share of own volume",
    "distinct_neighbours": "Distinct neighbours",
    "a_far": "A = P(sample farther than held-out shape)",
    "z_u": "Z of Mann–Whitney's U (below 0: nearer)",
    "flagged": "Samples with p ≤ 0.05",
    "flagged_share": "Their share",
    "flagged_expected": "Share expected of an honest sampler",
    "significant": "Flagged after Benjamini–Hochberg at 5 %",
    "p_floor": "Smallest possible p",
    "n_samples": "Samples drawn from",
    "valid": "Share with a volume as 98 % of the data have",
    "coverage_l1": "Coverage (COV), L1",
    "coverage_jaccard": "Coverage (COV), Jaccard",
    "one_nna_l1": "1-NNA, L1 (0.5 is ideal)",
    "one_nna_gen_l1": "… on the shapes themselves",
    "one_nna_ref_l1": "… on held-out shapes",
    "one_nna_jaccard": "1-NNA, Jaccard (0.5 is ideal)",
    "one_nna_gen_jaccard": "… on the shapes themselves",
    "one_nna_ref_jaccard": "… on held-out shapes",
    "mmd_l1": "Minimum matching distance (MMD), L1, voxels",
    "mmd_jaccard": "Minimum matching distance (MMD), Jaccard",
    "jsd": "Jensen–Shannon divergence of places",
    "coverage_chamfer": "Coverage (COV), Chamfer",
    "one_nna_chamfer": "1-NNA, Chamfer (0.5 is ideal)",
    "one_nna_gen_chamfer": "… on the shapes themselves",
    "one_nna_ref_chamfer": "… on held-out shapes",
    "mmd_chamfer": "Minimum matching distance (MMD), Chamfer, squared sides of the grid",
    "ks_volume": "Kolmogorov–Smirnov distance: volume",
    "ks_components": "… number of components",
    "ks_largest_share": "… share of the largest component",
    "ks_euler": "… Euler number (parts − tunnels + cavities)",
    "ks_extent_x": "… extent along x",
    "ks_extent_y": "… extent along y",
    "ks_extent_z": "… height",
    "ks_symmetry_x": "… symmetry across x",
    "ks_interior": "… interior voxels",
    "fd": "Fréchet distance of D's features (FD)",
    "fd_infinity": "… extrapolated to infinitely many shapes (FD∞)",
    "kid": "Kernel distance of D's features (KID)",
    "kid_p": "… p of one distribution",
    "precision": "Precision of D's features",
    "recall": "Recall of D's features",
    "density": "Density of D's features (1 for equal distributions)",
    "coverage_knn": "Coverage of D's features, 5 neighbours",
    "one_nna_feature": "1-NNA, D's features (0.5 is ideal)",
    "one_nna_gen_feature": "… on the shapes themselves",
    "one_nna_ref_feature": "… on held-out shapes",
    "fld": "Feature likelihood divergence (FLD)",
    "fld_gap": "… gap between training and held-out shapes (far below 0: memorised)",
    "vendi": "Vendi score: effective number of different shapes",
    "n_test": "Test shapes",
    "n_classes": "Classes",
    "leaked": "Test shapes that stand in training too",
    "accuracy": "Accuracy, overall",
    "mean_class_accuracy": "Accuracy, mean of classes",
    "accuracy_without_leaks": "Accuracy without test shapes that stand in training",
    "folds_accuracy": "Accuracy on folds of the training shapes",
    "c": "C, chosen on these folds",
    "constant_features": "Features that are constant, left out",
    "p_untrained": "p of D being no better than an untrained one (McNemar, largest of its seeds)",
    "more_right_than_untrained": "Test shapes that D gets right beyond an untrained one, mean",
    "checkpoints": "Checkpoints judged",
    "best_step": "Best checkpoint, step",
    "best_one_nna_l1": "… its 1-NNA, L1",
    "best_coverage_l1": "… its coverage, L1",
    "best_valid": "… its share of valid volume",
    "best_a_far": "… its A",
    "undecided_share": "Probabilities between 0.1 and 0.9, of those above 0.1",
    "one_nna_l1_low": "Lowest 1-NNA, L1, over thresholds",
    "one_nna_l1_high": "Highest 1-NNA, L1, over thresholds",
    "steps": "Steps",
    "epochs": "Epochs",
    "seconds_per_epoch": "Seconds per epoch (median)",
    "last_loss_d": "Loss of D",
    "last_loss_g": "Loss of G",
    "last_acc_d": "Accuracy of D",
    "last_acc_d_real": "… on real shapes",
    "last_acc_d_fake": "… on generated shapes",
    "last_d_updated": "Share of steps in which D learned",
    "last_occupancy_g": "Occupied share of G's grids",
    "d_updated_share": "Share of D updates, whole run",
    "steps_since_d_update": "Steps since D last learned",
}
# What a picture shows, in the order in which pictures stand.
CAPTIONS = {
    "samples": "Generated shapes, as drawn",
    "training": "Training shapes, drawn at random",
    "pairs": "Generated shapes as drawn, each beside its nearest training shape",
    "progress": "The same latents through training",
    "distances": "Distance to the nearest training shape: generated against held-out shapes",
    "most-train-like": "The most train-like samples, each beside its nearest training shape",
    "median": "Samples of median distance, each beside its nearest training shape",
    "measures": "Each measure of generated and real shapes, of the mean shape and of noise, against held-out shapes",
    "confusion": "True classes against predicted ones",
    "sizes": "Accuracy from few training shapes of each class",
    "history": "Quality and novelty at every checkpoint, beside what real shapes reach",
    "threshold-sweep": "Quality and novelty of the same samples at other thresholds",
    "curves": "Losses, accuracy of D, share of D updates, occupancy of G's grids",
}


def report(run: RunDir) -> Path:
    """Write `report.html` from the results and pictures that are there, and return its path."""
    results = run.results()
    made = {result["verb"] for result in results.values()}
    loader = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    html = loader.get_template("report.html.j2").render(
        title=f"{run.meta['category']} at {run.resolution}³",
        run=run.meta,
        cards=_cards(results),
        sections=[_section(run, results, *section) for section in SECTIONS if section[0] not in OPTIONAL or section[0] in made],
        provenance=_provenance(run),
    )
    path = run.path / "report.html"
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _section(run: RunDir, results: dict[str, Any], verb: str, title: str, folder: str, about: str) -> dict[str, Any]:
    """A section: its results and pictures, or the command that makes them."""
    mine = {name: result for name, result in results.items() if result["verb"] == verb}
    pictures = [path for path in run.pictures(folder) if folder == verb or path.stem.startswith(verb)]
    order = list(CAPTIONS)
    pictures.sort(key=lambda path: order.index(_name(path, verb)) if _name(path, verb) in order else len(order))
    return {
        "verb": verb, "title": title, "about": about,
        "missing": None if mine else f"python cli.py {verb} RUN_DIR",
        "never": "The run brought no training log." if verb == "curves" and not run.has("metrics.csv") else None,
        "results": [_table(name, result) for name, result in mine.items() if verb != "gallery"],
        "pictures": [
            {"data": base64.b64encode(path.read_bytes()).decode(), "caption": CAPTIONS.get(_name(path, verb), path.stem)}
            for path in pictures
        ],
    }  # fmt: skip


def _table(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Rows of one result: values with their intervals, then what is absent and why. `<key>/<set>` is a column of its own."""
    rows = []
    values, absent = result["values"], result["absent"]
    others = variants(values)
    for key in [key for key in [*values, *absent] if "/" not in key]:
        interval = result["intervals"].get(key)
        around = f"{interval['low']:.3f} – {interval['high']:.3f} ({interval['kind']})" if interval else absent.get(key, "")
        rows.append(
            {
                "label": LABELS.get(key, key),
                "value": _number(values.get(key, "absent")),
                "interval": around,
                "others": [
                    _number(values.get(name, "absent" if name in absent else "")) for name in (f"{key}/{o}" for o in others)
                ],
            }
        )
    notes = [f"{LABELS.get(key.split('/')[0], key)}, {key.split('/')[1]}: {why}" for key, why in absent.items() if "/" in key]
    return {
        "name": name, "about": _about(result), "protocol": result["protocol"], "notes": result["notes"] + notes,
        "facts": [row for row in rows if not any(row["others"])], "rows": [row for row in rows if any(row["others"])],
        "others": others, "column": result["options"].get("column", "Value"),
    }  # fmt: skip


def _about(result: dict[str, Any]) -> str:
    """Which samples or log a result is of, and when it was made: a later training or sampling makes it stale."""
    samples, log = result["inputs"].get("samples"), result["inputs"].get("metrics")
    if samples:
        step = f", step {samples['step']}" if "step" in samples else ""
        return f"of {samples['path']}{step} · {result['created']}"
    return f"of {log['n']} steps · {result['created']}" if log else str(result["created"])


def _cards(results: dict[str, Any]) -> list[dict[str, str]]:
    """The figures that one asks for first."""
    novelty, real, training = (results.get(verb, {}).get("values", {}) for verb in ("nn-check", "compare", "curves"))
    cards = []
    if "verdict" in novelty:
        cards.append((str(novelty["verdict"]).replace("-", " "), "verdict of the nearest-neighbour check"))
    if novelty:
        cards.append((f"{novelty['exact_copies']} of {novelty['n']}", "samples are exact copies of a training shape"))
        cards.append(
            (f"{novelty['empty'] + novelty['too_small']} of {novelty['n']}", "samples are empty or too small to judge")
        )
    if "flagged_share" in novelty:
        cards.append((f"{novelty['flagged_share']:.1%}", "are nearer to training than 95 % of held-out shapes (5 % expected)"))
        cards.append((f"{novelty['a_far']:.2f}", "A: 0.5 as far as held-out shapes, 0 copies, 1 unlike the data"))
    if "one_nna_l1/real" in real:
        both = " and ".join(f"{real[f'one_nna_{kind}_l1']:.2f}" for kind in ("gen", "ref"))
        cards.append(
            (both, f"1-NNA (L1) on samples, held-out shapes: 0.5 is ideal, real ones have {real['one_nna_l1/real']:.2f}")
        )
        share = real["coverage_l1"] / real["coverage_l1/real"]
        cards.append((f"{share:.0%}", "of the coverage under L1 that real shapes reach"))
    if "epochs" in training:
        cards.append((f"{training['epochs']:.0f}", "epochs of training"))
    if "d_updated_share" in training:
        cards.append((f"{training['d_updated_share']:.0%}", "of steps passed the gate: D learned"))
    return [{"value": value, "label": label} for value, label in cards]


def _provenance(run: RunDir) -> list[tuple[str, str]]:
    """run.json and config.json, flat."""
    rows = []
    for source in (run.meta, run.config() if run.has("config.json") else {}):
        for key, value in source.items():
            text = " ".join(value) if key == "command" and isinstance(value, list) else value
            rows.append((key, text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)))
    return rows


def _name(path: Path, verb: str) -> str:
    """A picture's name without its verb."""
    return path.stem.removeprefix(f"{verb}-")


def _number(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
