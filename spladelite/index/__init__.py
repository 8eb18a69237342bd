"""Bytes, rows and scores: how vectors are quantised, stored, sealed into segments, and ranked.

Imports ``file``. Start with ``postings`` (the bytes of a list), ``segments`` (tail, seal, merge), then ``scoring`` (the
formula, and the oracle of the compiled kernel) and ``snapshot`` (one state of the index, as a search sees it).
"""
