"""Documents on their way in and out: files and texts, passages, the table of documents, filters over metadata.

Imports ``index`` and ``file``. Start with ``ingest`` (text to stored passages) and ``table`` (what is stored).
"""
