"""Taking a database elsewhere: to a plain SQLite file that any language reads."""
