"""The browser's side of ``db.export_web``: the JavaScript modules and the page that an export gets copies of."""
