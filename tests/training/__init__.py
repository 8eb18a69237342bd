"""Tests of training: losses and gradients, whole small runs, what goes wrong, recipes and adaptation."""
