"""Mesh and voxel sources, made into dataset directories. No torch here."""
