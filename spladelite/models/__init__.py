"""The bundled model. ``MODEL_CARD.md`` says where it comes from and how good it is."""
