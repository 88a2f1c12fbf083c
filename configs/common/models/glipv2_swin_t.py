"""GLIPv2-T: GLIP-T's Swin-T, BERT-base and six blocks (Table 8), with all losses of Section 3.2."""

from .glip_swin_t import model
from .glipv2 import add_pretraining_losses

add_pretraining_losses(model, vocabulary_size=30522)
