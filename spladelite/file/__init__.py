"""SQLite and the disk: connections, transactions, locks, forks, the schema. Knows no vectors.

Imports only errors and the migrations. ``connection`` is the only module that opens a database file. Start there.
"""
