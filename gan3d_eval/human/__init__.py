"""What do people think? A web study of generated shapes, its tally, and how large it must be."""
