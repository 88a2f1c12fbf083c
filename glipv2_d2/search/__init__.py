"""The regions of a collection of images, and which of them are most like a vector."""
