"""This model against stored outputs of the official GLIP: `python -m tools.parity --help`.

`cases` reads the files, `model` builds GLIP-T with the generated weights, `capture` records what
the model computes under the official names, `comparison` and `detections` judge the differences,
`inference` and `training` go through a case, `report` prints.
"""
