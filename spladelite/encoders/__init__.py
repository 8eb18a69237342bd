"""Models: text in, sparse vectors out.

::

    base          the protocol                        registry    what a user names -> an encoder
    tokenizer     tokenizer.json                      routed      tokenizer + a side for documents, one for queries
    onnx, folder  the default: an exported folder     torch       any masked language model checkpoint
    checkpoint    what a folder holds, and checks     objects     functions and SparseEncoder objects
    hub           models by name                      rows        dense values -> sparse rows
    export        checkpoint -> exported folder: bodies (transformers), heads (output layer), convert, graph; compare
"""
