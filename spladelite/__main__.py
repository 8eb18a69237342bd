"""``python -m spladelite`` is the command ``spladelite``."""

from spladelite.cli import main

main(prog_name="spladelite")
