"""What an image is made of: its lock and labels, the build's context, and the tools that build it.

Nothing here is imported by what serves.
"""
