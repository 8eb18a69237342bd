"""From a transformers checkpoint to the folder that ONNX Runtime reads (needs the ``[torch]`` extra), and back.

Start with ``export``; ``take apart`` a checkpoint in ``bodies``, build graphs in ``graph`` and ``heads``.
"""
