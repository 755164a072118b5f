"""One model, any serving platform: the runtime of Open Model Interface containers."""

__version__ = "0.1.0"
