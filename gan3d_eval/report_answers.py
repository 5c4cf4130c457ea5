"""The report's first words: what the results say to each question, and how far that carries."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

__all__ = ["answers", "failures", "percent"]

Answer = dict[str, str]
NEAR, FAIR = 0.15, 0.25
"""Beyond what real shapes of as many have: how far a 1-NN accuracy may be from ½ to be called good, and fair."""
NOVEL = {
    "no-evidence-of-copying": ("Yes, as far as the check can see", "good"),
    "copying": ("No: it copies", "bad"),
    "far-from-data": ("New, or just bad", "bad"),
    "undecided": ("Undecided", "fair"),
}


def answers(
    results: dict[str, dict[str, Any]], stale: Collection[str], why_no_weights: str, command: Callable[[str], str]
) -> list[Answer]:
    """Question, answer, tone (good, fair, bad, none) and detail, in the order of the slides' questions.

    A question whose verb was not run, or on samples that are not there any more (`stale`), is answered by the `command` of
    that verb. Without D's weights its features cannot be asked for, and `why_no_weights` says why.
    """

    def ask(question: str, verb: str, judge: Callable[[dict[str, Any]], tuple[str, str, str] | None]) -> Answer:
        if verb not in results or verb in stale:
            return _answer(question, "Asked of older samples" if verb in stale else "Not asked yet", "none", command(verb))
        said = judge(results[verb])
        return _answer(question, *said) if said else _answer(question, "Cannot be said", "none", "see the reasons below")

    features, people = "Are D's features any good?", "What do people say?"
    pairs_alone = "human-eval-2afc" in results and "human-eval" not in results
    return [
        ask("Is it real?", "compare", _real),
        ask("Is it new?", "nn-check", _new),
        ask(features, "classify-features", _features)
        if not why_no_weights or "classify-features" in results
        else _answer(features, "Cannot be asked", "none", why_no_weights),
        ask(people, "human-eval-2afc", _preferred) if pairs_alone else ask(people, "human-eval", _people),
    ]


def failures(meta: dict[str, Any]) -> list[str]:
    """What the trainer's detectors wrote into `run.json`, a line each; whatever else stands there is passed over."""
    found = meta.get("failures")
    return [
        f"{str(failure['name']).replace('-', ' ')} at step {failure.get('step')}: {failure.get('diagnosis')}"
        for failure in (found if isinstance(found, list) else [])
        if isinstance(failure, dict) and "name" in failure
    ]


def _answer(question: str, answer: str, tone: str, detail: str) -> Answer:
    return {"question": question, "answer": answer, "tone": tone, "detail": detail}


def _real(result: dict[str, Any]) -> tuple[str, str, str] | None:
    values = result["values"]
    keys = [f"one_nna_{kind}_l1" for kind in ("gen", "ref")]
    if any(key not in values or f"{key}/real" not in values for key in keys) or not values.get("coverage_l1/real"):
        return None
    apart, floor = (max(abs(values[key + end] - 0.5) for key in keys) for end in ("", "/real"))
    beyond, share = apart - floor, values["coverage_l1"] / values["coverage_l1/real"]
    tone = "good" if beyond <= NEAR and share >= 0.9 else "fair" if beyond <= FAIR and share >= 0.75 else "bad"
    word = {"good": "Nearly as real as data", "fair": "Partly", "bad": "No"}[tone]
    both = " and ".join(f"{values[key]:.2f}" for key in keys)
    detail = (
        f"1-NN accuracy is {both} on samples and on held-out shapes (½ is ideal; real "
        f"shapes are {100 * floor:.0f} points off); they cover {percent(share)} of what real shapes cover, and "
        f"{percent(values.get('valid', 0))} are as large as training shapes are (within the middle 98 % of their volumes)."
    )
    return word, tone, detail


def _new(result: dict[str, Any]) -> tuple[str, str, str] | None:
    word = NOVEL.get(str(result["values"].get("verdict")))
    if word is None:
        return None
    if not result["values"].get("n_judged", 1):
        word = ("No sample can be judged", "bad")
    reason = next(iter(result["notes"]), "")
    said = reason.partition(": ")[2] or reason
    meant = " A is the chance that a sample lies farther from the training set than a held-out shape." if "(A " in said else ""
    return *word, said[:1].upper() + said[1:] + meant


def _features(result: dict[str, Any]) -> tuple[str, str, str] | None:
    values = result["values"]
    untrained = [value for key, value in values.items() if key.startswith("accuracy/untrained")]
    if "accuracy" not in values or not untrained:
        return None
    p, best = values.get("p_untrained", 1.0), max(untrained)
    better = p <= 0.05 and values["accuracy"] > best
    plain = max((value for key, value in values.items() if key.startswith("accuracy/voxels")), default=0.0)
    word, tone = ("Better than untrained ones", "good") if better else ("No better than untrained ones", "bad")
    if better and values["accuracy"] <= plain:
        word, tone = "Better than untrained ones, not than plain voxels", "fair"
    detail = f"{percent(values['accuracy'], 1)} of test shapes right; untrained D {percent(best, 1)} at best (p = {p:.3g})"
    return word, tone, f"{detail}, plain voxels {percent(plain, 1)}." if plain else f"{detail}."


def _people(result: dict[str, Any]) -> tuple[str, str, str] | None:
    values, intervals = result["values"], result["intervals"]
    if not {"fooling_rate", "hit_rate"} <= set(values):
        return None
    around = intervals.get("fooling_rate_clustered") or intervals["fooling_rate"]
    detail = (
        f"95 % interval [{percent(around['low'])}, {percent(around['high'])}], from {values['raters']} raters, who called "
        f"{percent(values['hit_rate'])} of the real shapes real."
    )
    return f"{percent(values['fooling_rate'])} taken for real", "none", detail


def _preferred(result: dict[str, Any]) -> tuple[str, str, str] | None:
    values, intervals = result["values"], result["intervals"]
    if "preferred" not in values:
        return None
    around = intervals.get("preferred_clustered") or intervals["preferred"]
    detail = f"Preferred in [{percent(around['low'])}, {percent(around['high'])}] of the pairs, by {values['raters']} raters."
    return f"Preferred in {percent(values['preferred'])} of pairs", "none", detail


def percent(share: float, digits: int = 0) -> str:
    """0.912 → `91 %`, which no line break parts."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
