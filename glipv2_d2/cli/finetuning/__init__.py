"""What `glip finetune` is made of; glipv2_d2/cli/finetune.py puts it together."""
