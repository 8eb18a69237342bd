"""From a question to hits: the checked request, query weights, ranking, fusion, explanation.

Imports ``documents``, ``index`` and ``file``. Start with ``request``, then ``run``.
"""
