"""A database as a folder that any static web host can search: ``db.export_web``; the reader is ``web/`` (JavaScript).

Start at ``site``; the bytes are in ``lists`` and docs/web.md.
"""
