"""The servers under the adapters; neither handles signals, which belong to `serve`."""
