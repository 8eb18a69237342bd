"""Training: fine-tune a SPLADE model, choose where it stands between sparsity and quality, ship it.

``data`` reads examples, ``pseudo`` makes them out of documents, ``mining`` finds negatives, ``teachers`` score;
``batches`` draws, ``model`` encodes with gradients, ``losses`` are the papers', ``loop`` is the run from top to bottom;
``measure`` validates, ``state`` keeps an interrupted run, ``report`` writes what is left of it. ``recipe`` puts mining,
scoring and training together; ``adapt`` does it for a database's own documents.

torch is imported when a run begins, not with this package.
"""

from spladelite.training.adapt import Adapted, adapt
from spladelite.training.config import Setup, TrainConfig
from spladelite.training.data import Example, TrainingData, Validation, read_training_data
from spladelite.training.loop import Trained, train
from spladelite.training.recipe import Recipe, fine_tune

__all__ = [
    "Adapted",
    "Example",
    "Recipe",
    "Setup",
    "TrainConfig",
    "Trained",
    "TrainingData",
    "Validation",
    "adapt",
    "fine_tune",
    "read_training_data",
    "train",
]
