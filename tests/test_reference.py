"""docs/commands.md is what --help says; `python tests/test_reference.py` writes it anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "commands.md"
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
    assert PAGE.read_text(encoding="utf-8") == reference(), "run python tests/test_reference.py"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(reference(), encoding="utf-8")
