"""What modeling asks of weights files; the layer above, `glipv2_d2.checkpoint`, answers.

Modeling knows no file and no published format. `import glipv2_d2` registers these functions of
checkpoint/loading.py, checkpointer.py, building.py and frozen_vocabulary.py, which modeling takes
by name, `WEIGHTS_REGISTRY.get("load_pretrained")`:

* `convert_on_load`: pre-hook of a GLIP's `load_state_dict`, so that official weights come through
  every loader, torch's and Detectron2's, too.
* `load_pretrained`: fills a module whose argument `pretrained` names weights.
* `load_weights`: fills a model that is to be used.
* `config_for_weights`: a config that asks for nothing which a weights file brings.
* `frozen_tokenizer`: the prompts that a file of weights is for, see `FrozenVocabulary`.
"""

from fvcore.common.registry import Registry

__all__ = ["WEIGHTS_REGISTRY"]

WEIGHTS_REGISTRY = Registry("WEIGHTS")
