"""The same collection in an engine that is distributed already: ``connect(url)``, ``move`` and ``verify``.

Start at :mod:`spladelite.transfer.connect`; :mod:`~spladelite.transfer.remote` is the interface that every engine gets,
:mod:`~spladelite.transfer.engine` what an engine has to do for it, and each engine is one module. May import everything
below ``database``; nothing but ``cli`` imports it.
"""
