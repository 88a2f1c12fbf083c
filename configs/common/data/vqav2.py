"""VQAv2: questions about COCO's images of 2014, less the 2,000 images of the development split.

`dataloader.test.dataset=vqav2_test-dev` (or `vqav2_test`) writes the file for the server.
"""

from .coco import dataloader

dataloader.train.datasets = ["vqav2_train", "vqav2_val_without_dev"]
dataloader.test.dataset = "vqav2_dev"
