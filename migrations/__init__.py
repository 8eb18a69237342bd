"""The schema of every format version, one SQL file a step: ``0001_initial.sql``, ``0002_…``.

A file holds complete SQL statements. ``PRAGMA user_version`` of a database says how many steps it has had.
"""
