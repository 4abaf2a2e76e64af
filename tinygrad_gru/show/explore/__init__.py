"""The explorer: a model as one page for the browser, in which one looks inside it and changes it."""

from .build import Explorer, explorer

__all__ = ["Explorer", "explorer"]
