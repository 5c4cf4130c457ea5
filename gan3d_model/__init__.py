"""Train 3D-GANs on voxel shapes, and prepare the data for it. Writes run directories; judges nothing."""
