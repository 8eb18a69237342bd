"""Other people's interfaces over the public API, each in a module that imports its framework: thin, and on their floor.

``langchain``, ``haystack``, ``llamaindex``, ``mcp``, ``datasette`` and ``chroma`` (which needs no framework). A module
whose framework is not installed says which extra installs it.
"""
