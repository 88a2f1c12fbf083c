"""The renderer of the embedded "scenes" data set (colored shapes on real photographs).

Pure NumPy and Pillow; `datasets/prepare_scenes.py` is its command line and
`glipv2_d2.scenes.datasets` registers what it writes.
"""
