"""``spladelite serve kb.db``: a local page to explore a database, and the JSON API under it (extra ``[serve]``).

::

    app        requests -> endpoints -> JSON; static/ holds the page: plain HTML, CSS and modules
    access     who may ask: this machine, this page, whoever has the token
    openapi    an endpoint's signature -> its parameters, checked, and the OpenAPI document
    endpoints  what can be asked; changes: what ``--write`` adds
    browse     facets, terms by frequency, a term's documents: asked of the database in SQL
    answers    the records that endpoints return
"""
