"""The demo's world: scenes of colored shapes on real photographs, and what is measured on them.

`datasets/prepare_scenes.py` is the command line of the renderer; `glipv2_d2.data.datasets.scenes`
registers what it writes. `import glipv2_d2` does not load this package.
"""
