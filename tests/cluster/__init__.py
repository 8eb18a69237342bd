"""Real servers on loopback, each with its files in a folder of its own, and what is tried on them.

``make cluster`` runs all of it; ``make test`` what fits: PostgreSQL and two ClickHouse servers where their Debian
packages are, Qdrant through its client's local mode.
"""
