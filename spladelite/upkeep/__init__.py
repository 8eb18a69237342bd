"""Looking after a file: check, repair, re-encoding, slim and plain exports, figures.

Imports ``session`` and what is below it.
"""
