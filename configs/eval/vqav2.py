"""VQAv2, development split: VQA's accuracy by type of answer and question.

`dataloader.test.dataset=vqav2_test-dev` (or `vqav2_test`) writes the file for the server.
"""

from ..common.eval import evaluation, model, one

dataloader = one("vqav2_dev")
