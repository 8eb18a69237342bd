"""What PyInstaller cannot see in the source: files that are read, and modules that are imported by name.

What only loading checkpoints needs is left out even where it is installed: hundreds of megabytes. A program that loads
them adds ``--hidden-import torch --hidden-import transformers --hidden-import safetensors``.
"""

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

from spladelite import _ROOMS

datas = [*collect_data_files("spladelite"), *copy_metadata("spladelite")]
hiddenimports = [*(f"spladelite.{room}" for room in _ROOMS), "spladelite.migrations", "spladelite.web"]
excludedimports = ["huggingface_hub", "ir_measures", "matplotlib", "onnx", "safetensors", "torch", "transformers"]
