"""``python -m spladelite`` is the command ``spladelite``."""

from spladelite.cli.main import main

main(prog_name="spladelite")
