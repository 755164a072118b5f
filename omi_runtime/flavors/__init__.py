"""Kinds of models that `OMI_MODEL` can name beside a subclass of Model; found by entry point."""
