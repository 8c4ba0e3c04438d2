"""Runs: which there are, how far each is, and ending one."""

import typer

app = typer.Typer(help="Runs: files that were submitted, and how far each is.", no_args_is_help=True)
