"""The demo's GLIP, pre-trained without the color pink and without moons (docs/transfer.md).

What it knows nothing of is tested beside what it learns.
"""

from ..common.recipes.scenes import dataloader, inference, lr_multiplier, model, optimizer, train

train.output_dir = "./output/scenes_old"
dataloader.train.datasets = [["scenes_train_old", 1.0], ["scenes_train_old_grounding", 0.4]]
dataloader.test.dataset = "scenes_val_old"
new = dataloader.further_tests.pop("scenes_novel")
new.test.dataset = "scenes_val_new"
new.evaluator.output_dir = "${train.output_dir}/inference_new"
dataloader.further_tests.scenes_val_new = new
