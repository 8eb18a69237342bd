"""Models: text in, sparse vectors out.

::

    base          the protocol                        registry    what a user names -> an encoder
    tokenizer     tokenizer.json                      routed      tokenizer + a side for documents, one for queries
    onnx, folder  the default: an exported folder     torch       any masked language model checkpoint
    checkpoint    what a folder holds, and checks     objects     functions and SparseEncoder objects
    hub           models by name                      rows        dense values -> sparse rows
    export        checkpoint -> exported folder: bodies (transformers), heads (output layer), convert, graph; compare
"""

import os

# ONNX Runtime would send figures of use to its maker, and write a file into the home directory, as soon as it is
# imported. Whoever wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
