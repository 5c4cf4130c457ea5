"""docs/commands.md is what --help says, docs/metrics.md ends with the report's names; `python tests/test_reference.py` writes both anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "commands.md"
METRICS = ROOT / "docs" / "metrics.md"
HEAD = """# Commands

What `--help` says, in the order in which data flows. Exit codes: 0 done, 1 could not, 2 wrong usage, 3 the check itself failed,
130 interrupted. stdout is a path, a small table or `--json`; stderr is log and progress.
"""


def helps(command: click.Command, name: str, above: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Path and help of a command, and of those below it."""
    context = command.make_context(name, [], above, resilient_parsing=True, terminal_width=100, color=False)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for part in command.list_commands(context):
            yield from helps(command.get_command(context, part), part, context)


def reference() -> str:
    from cli import main

    return HEAD + "".join(f"\n## {path}\n\n```\n{text}\n```\n" for path, text in helps(main, "cli.py"))


def test_the_reference_is_what_help_says():
    # A process of its own: click keeps the options of a command's first call, whoever made it.
    fresh = subprocess.run([sys.executable, __file__, "-"], capture_output=True, text=True, encoding="utf-8", check=True)
    assert PAGE.read_text(encoding="utf-8") == fresh.stdout, "run python tests/test_reference.py"


def with_names(page: str) -> str:
    """docs/metrics.md with the table of the report's names."""
    from gan3d_eval.report_texts import LABELS

    before, rest = page.split("<!-- names -->\n")
    rows = ["| in the report | in the file |", "|---|---|", *(f"| {label} | `{key}` |" for key, label in LABELS.items())]
    return before + "<!-- names -->\n" + "\n".join(rows) + "\n<!-- end names -->" + rest.split("<!-- end names -->")[1]


def test_the_names_of_the_report_can_be_looked_up():
    page = METRICS.read_text(encoding="utf-8")
    assert page == with_names(page), "run python tests/test_reference.py"


def test_every_measure_and_verdict_is_explained():
    from gan3d_eval.nn_check import BESIDE, DISTANCES
    from gan3d_eval.report_answers import NOVEL
    from gan3d_eval.set_measures import FEATURE_MEASURES, LOOKS, MEASURES

    metrics, reading = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("metrics.md", "read-your-report.md"))
    by_distance = {
        f"{stem}_{d}"
        for stem in ("coverage", "one_nna", "one_nna_gen", "one_nna_ref", "mmd")
        for d in ("l1", "jaccard", "chamfer", "feature")
    }
    told = by_distance | {f"ks_{look}" for look in LOOKS}  # by one of each kind
    names = [*DISTANCES, *BESIDE, *(name for name in (*MEASURES, *FEATURE_MEASURES) if name not in told)]
    assert [name for name in names if f"`{name}`" not in metrics] == []
    assert [verdict for verdict in NOVEL if f"`{verdict}`" not in reading] == []


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(reference())
    else:
        PAGE.write_text(reference(), encoding="utf-8")
        METRICS.write_text(with_names(METRICS.read_text(encoding="utf-8")), encoding="utf-8")
