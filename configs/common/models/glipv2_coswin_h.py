"""GLIPv2-H: CoSwin-H of Florence (arXiv 2111.11432) and CLIP's text transformer (Table 8).

Florence (Section 2.3) states two things about CoSwin-H: convolutional embeddings as in CvT, and 637
million parameters. Its widths, depths, heads and window are not published. Chosen here:
- 352 channels in the first stage, doubled from stage to stage, 32 per head: the "huge" width of
  Swin V2 (arXiv 2111.09883).
- depths 2, 2, 16, 2. With Swin V2's 18 in the third stage the 3x3 embeddings would make it 681
  million; with 16 it has 633.6 million, and 636.5 with a final norm and a 1024-wide projection.
- window 12, as Swin's own models for 384 pixels, the size of Florence's last training phase.
- stochastic depth as in GLIP-L. Recomputed activations: one image a GPU (Appendix D.1 of GLIPv2).

GLIPv2 does not state the sizes of H's text transformer and tower either: the former is that of
CLIP's ViT-B and starts from its weights, as Florence's were never published; the latter is
GLIPv2-B's with GLIP-L's eight blocks.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling.backbone import CoSwinBackbone

from .glip_swin_t import model
from .glipv2 import add_pretraining_losses, use_clip_text

model.backbone.bottom_up = L(CoSwinBackbone)(
    embed_dim=352,
    depths=(2, 2, 16, 2),
    num_heads=(11, 22, 44, 88),
    window_size=12,
    drop_path_rate=0.4,
    out_features=("res3", "res4", "res5"),
    frozen_stages=-1,
    use_checkpoint=True,
    pretrained=None,
)
use_clip_text(model)
model.language_backbone.pretrained = True
model.language_backbone.layer_norm_eps = 1e-5  # OpenAI's
model.neck.num_blocks = 8
add_pretraining_losses(model, vocabulary_size=49408)
