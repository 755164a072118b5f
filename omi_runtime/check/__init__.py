"""The specifications made executable: rules that any image or running server is held to.

A rule is data: an id, where it is from, MUST or SHOULD, and a function. The rules of
an interface's wire lie with its adapter; those of an image, and what runs and tells, are here.
"""
