"""Judge 3D-GANs from files: is it real, is it new, is it better? Never imports torch."""

__version__ = "0.1.0"
