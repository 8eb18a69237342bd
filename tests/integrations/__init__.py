"""The adapters against the suites of their frameworks; skipped where a framework is not installed."""
