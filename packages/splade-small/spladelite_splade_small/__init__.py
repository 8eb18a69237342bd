"""The folder of the model splade-small: ``SpladeLite("kb.db", model="splade-small")`` finds it here."""
