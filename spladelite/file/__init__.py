"""SQLite and the disk: connections, transactions, locks, forks, the schema. Knows no vectors.

Imports only leaves. ``connection`` is the only module that opens a database file. Start there.
"""
