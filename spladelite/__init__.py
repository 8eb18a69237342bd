"""Learned sparse search (SPLADE) in one SQLite file."""
