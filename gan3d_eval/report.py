"""One self-contained HTML page of what is known about runs. Reads results and pictures; computes nothing.

A part that was not made yet says which command makes it. The page loads nothing from anywhere: its content security
policy forbids it, and lets no script run but ours, by its hash.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jinja2

from gan3d_eval.contract import is_ours
from gan3d_eval.files import atomic_file, in_shell, is_held
from gan3d_eval.provenance import variants
from gan3d_eval.report_answers import answers, failures, percent
from gan3d_eval.report_shapes import is_stale, turned
from gan3d_eval.report_texts import CAPTIONS, LABELS, OPTIONAL, SECTIONS
from gan3d_eval.run_dir import LOCK, RunDir, RunDirError
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["report"]

HERE = Path(__file__).parent
SAMPLELESS = ("curves", "classify-features", "explore", "history")
"""Verbs that judge a run before it has its samples."""
ASKED = {"human-eval": "human-eval serve", "human-eval-2afc": "human-eval serve --design 2afc"}
"""The verbs that let people answer what a result of another name counts."""
SCRIPTS = ("viewer.js", "report.js")


def report(runs: Sequence[RunDir], out: Path | None = None, say: Callable[[str], None] = lambda line: None) -> Path:
    """Write one page of all that is known about these runs, side by side if they are several; return its path.

    `out` defaults to `report.html` in the directory of a single run; for several it must be given. `say` gets a line for each
    result that is damaged, and left out.
    """
    if out is None and len(runs) != 1:
        raise RunDirError(f"{len(runs)} runs in one report; say with --out where it is to be written")
    out = out or runs[0].path / "report.html"
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    loader = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
    html = loader.get_template("report.html.j2").render(
        title=", ".join(dict.fromkeys(f"{run.meta['category']} at {run.resolution}³" for run in runs)),
        names=", ".join(run.path.resolve().name for run in runs),
        runs=[_run(run, number, say) for number, run in enumerate(runs)],
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with atomic_file(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out


def _run(run: RunDir, number: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything about one run."""
    refused: list[str] = []
    results = run.results(refused)
    shapes = _kept(lambda: turned(run, results), refused)
    _kept(run.metrics, refused)
    made = {result["verb"] for result in results.values()}
    stale = {name for name, result in results.items() if is_stale(run, result)}
    first, classes = _first(run), _classes(run)
    command = functools.partial(_command, run, first, classes)
    killed = run.meta["status"] == "running" and not is_held(run.path / LOCK)
    current = {name: result for name, result in results.items() if name not in stale}
    parts = [part for part in SECTIONS if part[0] not in OPTIONAL or part[0] in made]
    sections = [_section(run, results, stale, refused, command, part) for part in parts]
    for reason in refused:
        say(f"warning: left out: {reason}")
    return {
        "meta": run.meta | ({"status": "killed"} if killed else {}),
        "id": f"run{number}", "name": run.path.resolve().name, "cards": _cards(current),
        "answers": answers(results, stale, _why_no_weights(run), command),
        "failures": failures(run.meta), "refused": refused,
        "stopped": run.meta.get("failure") or ("it was killed" if killed else None),
        "resume": run.resumption() if killed or run.meta["status"] == "interrupted" else None,
        "shapes": shapes, "provenance": _provenance(run),
        "sections": sections,
    }  # fmt: skip


def _why_no_weights(run: RunDir) -> str:
    """Why there is no discriminator to ask; empty if there is one."""
    return "" if run.checkpoints() else "there is no checkpoint yet" if is_ours(run.meta) else "no weights came with this run"


def _first(run: RunDir) -> str:
    """The command that makes samples, where there are none to judge yet."""
    if run.sample_names() or not is_ours(run.meta) or (is_held(run.path / LOCK) and not run.checkpoints()):
        return ""
    return f"python cli.py sample {in_shell(run.path)}" if run.checkpoints() else run.resumption()


def _command(run: RunDir, first: str, classes: int | None, verb: str) -> str:
    """The command that makes a part of the page, or the one that has to come `first`; where the run's dataset is not at hand
    (`classes` is None) with the option that names one. Features need a dataset of several classes.
    """
    if first and verb not in SAMPLELESS:
        return first
    command = f"python cli.py {ASKED.get(verb, verb)} {in_shell(run.path)}"
    if verb == "classify-features" and classes in {None, 1}:
        return f"{command} --dataset DATASET_DIR" + " (labelled shapes; the run's own are of one class)" * (classes == 1)
    return command + " --reference DATASET_DIR" * (classes is None and verb != "curves")


def _classes(run: RunDir) -> int | None:
    """How many classes the run's dataset has; None where it is not at hand, 0 where it is damaged."""
    if not run.finds_dataset():
        return None
    try:
        return int(VoxelSet.open(run.dataset_path()).table["class"].nunique())
    except VoxelError:  # whoever needs it says so
        return 0


def _kept(read: Callable[[], Any], refused: list[str]) -> Any:
    """What `read` returns; of a file that is damaged None, and its reason among `refused`."""
    try:
        return read()
    except RunDirError as fault:
        refused.append(str(fault))
        return None


def _section(
    run: RunDir, results: dict[str, Any], stale: Collection[str], refused: list[str], command: Callable[[str], str],
    part: tuple[str, str, str, str],
) -> dict[str, Any]:  # fmt: skip
    """A section: its results and pictures, or the `command` that makes them."""
    verb, title, folder, about = part
    mine = {name: result for name, result in results.items() if result["verb"] == verb}
    pictures = [
        path for path in run.pictures(folder) if (folder == verb or path.stem.startswith(verb)) and _whole(path, verb, refused)
    ]
    captions = {path: _caption(path.stem, verb, mine) for path in pictures}
    order = {text: at for at, text in enumerate(CAPTIONS.values())}
    pictures.sort(key=lambda path: (captions[path][1], order.get(captions[path][0], len(order))))
    return {
        "verb": verb, "title": title, "about": about,
        "missing": not mine, "command": command(next((name for name in mine if name in stale and name in ASKED), verb)),
        "stale": ", ".join(name for name in mine if name in stale),
        "never": "The run brought no training log." if verb == "curves" and not run.has("metrics.csv") else None,
        "results": [_table(name, result) for name, result in mine.items() if verb != "gallery"],
        "pictures": [
            {
                "kind": path.suffix[1:], "data": base64.b64encode(path.read_bytes()).decode(),
                "caption": "".join(captions[path]),
            }
            for path in pictures
        ],
    }  # fmt: skip


def _whole(picture: Path, verb: str, refused: list[str]) -> bool:
    """Whether a picture begins as its kind does; if not, that is among `refused`: it would be a hole in the page."""
    begins = {".png": b"\x89PNG", ".gif": b"GIF8"}.get(picture.suffix)
    with picture.open("rb") as file:
        if begins is None or file.read(4) == begins:
            return True
    refused.append(f"{picture} is no picture; run {verb} again")
    return False


def _table(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Rows of one result: values with their intervals, then what is absent and why. `<key>/<set>` is a column of its own.

    What many measures lack for one reason is said once, below.
    """
    rows = []
    values, absent = result["values"], result["absent"]
    others = variants(values)
    why_many = [why for why, n in Counter(absent.values()).items() if n > 2]
    kinds = Counter(result["intervals"][key]["kind"] for key in values if key in result["intervals"] and "/" not in key)
    usual = next((kind for kind, n in kinds.most_common(1) if n > 2), None)  # said once, below
    keys = dict.fromkeys([*(key.split("/")[0] for key in values), *(key for key in absent if "/" not in key)])
    for key in [key for key in keys if absent.get(key) not in why_many]:
        interval = result["intervals"].get(key)
        of_kind = f" ({interval['kind']})" if interval and interval["kind"] != usual else ""
        around = f"{_ends(interval)}{of_kind}" if interval else absent.get(key, "")
        if key not in values:  # what compares with other runs has no value of its own
            apart = {o: result["intervals"].get(f"{key}/{o}") for o in others}
            around = around or "; ".join(f"{o}: {_ends(of)}" for o, of in apart.items() if of)
        rows.append(
            {
                "label": LABELS.get(key, key),
                "value": _number(values.get(key, "absent" if key in absent else "")),
                "interval": around,
                "others": [
                    _number(values.get(name, "absent" if name in absent else "")) for name in (f"{key}/{o}" for o in others)
                ],
            }
        )
    notes = [f"Intervals, where nothing else is said: {usual}."] if usual else []
    notes += [f"Absent: {', '.join(key for key in absent if absent[key] == why)}: {why}" for why in why_many]
    notes += [
        f"{LABELS.get(key.split('/')[0], key)}, {key.split('/')[1]}: {why}"
        for key, why in absent.items()
        if "/" in key and why not in why_many
    ]
    return {
        "name": name, "about": _about(result), "protocol": result["protocol"], "notes": notes + result["notes"],
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
    if novelty:
        cards.append((f"{novelty['exact_copies']} of {novelty['n']}", "samples are exact copies of a training shape"))
        cards.append(
            (
                f"{novelty['empty'] + novelty['too_small']} of {novelty['n']}",
                f"samples are empty or too small to be judged (below {novelty['smallest_volume']:.0f} voxels, as 5 % of data)",
            )
        )
    if "flagged_share" in novelty:
        cards.append((percent(novelty["flagged_share"], 1), "nearer to training than 95 % of held-out shapes (5 % expected)"))
        cards.append((f"{novelty['a_far']:.2f}", "A under L1: 0.5 as far as held-out shapes, 0 copies, 1 unlike the data"))
    if "one_nna_l1/real" in real:
        both = " and ".join(f"{real[f'one_nna_{kind}_l1']:.2f}" for kind in ("gen", "ref"))
        theirs = " and ".join(f"{real[f'one_nna_{kind}_l1/real']:.2f}" for kind in ("gen", "ref"))
        cards.append((both, f"1-NNA (L1) on samples, held-out shapes: 0.5 is ideal, real ones have {theirs}"))
        if real.get("coverage_l1/real"):
            share = real["coverage_l1"] / real["coverage_l1/real"]
            cards.append((percent(share), "of the coverage under L1 that real shapes reach"))
    if "epochs" in training:
        cards.append((f"{training['epochs']:.0f}", "epochs of training"))
    if "d_updated_share" in training and training["d_updated_share"] < 1:  # else there was no gate, or it never closed
        cards.append((percent(training["d_updated_share"]), "of steps passed the gate: D learned"))
    return [{"value": value, "label": label} for value, label in cards]


def _provenance(run: RunDir) -> list[tuple[str, str]]:
    """run.json and config.json, flat."""
    rows = []
    for source in (run.meta, run.config() if run.has("config.json") else {}):
        for key, value in source.items():
            if value is None or value == []:  # nothing is known, nothing failed
                continue
            text = " ".join(value) if key == "command" and isinstance(value, list) else value
            rows.append((key, text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)))
    return rows


def _caption(stem: str, verb: str, names: Collection[str]) -> tuple[str, str]:
    """A picture's caption, and of which result it is where that is not the run's own: `compare-mn10-measures` of
    `compare-mn10`.
    """
    of = max((name for name in names if stem == name or stem.startswith(f"{name}-")), key=len, default=verb)
    what = stem.removeprefix(of).removeprefix("-") or verb
    return CAPTIONS.get(what, what), "" if of == verb else f" ({of})"


def _ends(interval: dict[str, Any]) -> str:
    """Both ends of an interval, with as many digits as they deserve."""
    return f"{_number(float(interval['low']))} – {_number(float(interval['high']))}"


def _number(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
