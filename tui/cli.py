"""The command line. `tunedeck` alone opens the app; every step of the journey is a command.

Human text goes to stderr; with `--json`, stdout is exactly one JSON object. Exit codes: 0 done,
1 cannot (with the reason and the way out), 2 usage. Commands are imported when they are called,
so that `--help` is instant.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from core import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("journey", "The whole journey on an embedded model and data"),
    "inspect": ("data", "What is in a file, and what a model would learn from it"),
    "plan": ("plan", "What fits, how long it takes, what it costs"),
    "estimate": ("planning", "Peak memory of one model and method"),
    "train": ("journey", "Train a recipe"),
    "nodes": ("journey", "The commands for a recipe on several machines"),
    "runs": ("runs", "List the runs"),
    "attach": ("journey", "Watch a run: its history and the live tail"),
    "stop": ("runs", "Stop a run with a checkpoint"),
    "resume": ("runs", "Go on from the last checkpoint"),
    "remove": ("runs", "Delete a run"),
    "evaluate": ("results", "Measure base and tuned model on held-out rows"),
    "chat": ("results", "Talk to a tuned model"),
    "export": ("results", "Write the tuned model where other programs read it"),
    "calibrate": ("calibrating", "Measure how fast this machine trains, for better plans"),
    "doctor": ("machine", "Check the machine and the installation"),
}


class LazyGroup(click.Group):
    """A group whose commands live in `tui.commands.*` and are imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tui.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(__version__, prog_name="tunedeck")
@click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Fine-tune language models from your terminal.

    Without a command the app opens: look at your data, see what fits in the memory that is free
    now, watch the training live, talk to the result.
    """
    if ctx.invoked_subcommand is None:
        from tui.launch import open_app

        open_app()


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: runs a command and turns what goes wrong into one sentence."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if debug:
        words = ["--debug", *(word for word in words if word != "--debug")]
    try:
        code: Any = cli.main(words, prog_name="tunedeck", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        _abandon_stdout()
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _complain(error, words)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: Exception, words: list[str]) -> None:
    """Print the error as a sentence, and with `--json` as the one object that was promised."""
    from core.errors import UserError, describe_os_error
    from core.text import printable

    if isinstance(error, OSError):
        error = describe_os_error(error, "use")
    elif not isinstance(error, UserError):
        text = f"Something unforeseen: {type(error).__name__}: {error}."
        error = UserError(text, "`--debug` shows where; please report it.")
    click.echo(f"tunedeck: {printable(str(error))}", err=True)
    if "--json" in words:
        import json

        try:
            click.echo(json.dumps({"error": str(error)}))
        except OSError:
            _abandon_stdout()


def _abandon_stdout() -> None:
    """Nobody can read our output; Python would complain about that again while it shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
