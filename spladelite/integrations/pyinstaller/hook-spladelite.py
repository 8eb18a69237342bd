"""What PyInstaller cannot see in the source: files that are read, and modules that are imported by name.

Torch, transformers and the hub's client are left out although modules that no frozen program needs by itself import
them: they are hundreds of megabytes. A program that loads checkpoints adds ``--hidden-import torch --hidden-import
transformers``.
"""

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

datas = [*collect_data_files("spladelite", excludes=["serve/static/*"]), *copy_metadata("spladelite")]
hiddenimports = [
    "spladelite.database",
    "spladelite.encoders.base",
    "spladelite.errors",
    "spladelite.records",
]
excludedimports = [
    "huggingface_hub",
    "matplotlib",
    "onnx",
    "safetensors",
    "sentence_transformers",
    "torch",
    "transformers",
]
