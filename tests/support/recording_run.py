"""`training.main` with the loss of each iteration in metrics.json; spawned processes import it."""

from functools import partial

from detectron2.utils.events import JSONWriter

from glipv2_d2.engine import hooks, training


def main(args):
    # Detectron2's writer gives the median of the last twenty.
    hooks.JSONWriter = partial(JSONWriter, window_size=1)
    training.main(args)
