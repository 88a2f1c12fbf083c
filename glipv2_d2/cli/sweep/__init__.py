"""Parts of `glip odinw`: what is to be run, running it, the tables."""
