"""GLIPv2 (Zhang et al. 2022): GLIP with the losses of pre-training and further task heads."""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY

from ..contrast import RegionWordContrast
from ..heads import (
    CaptionHead,
    LanguageMaskHead,
    MaskedLanguageHead,
    PresenceHead,
    TaskHead,
    VqaHead,
)
from ..shortlist import NameEmbeddings
from .glip import GLIP

__all__ = ["GLIPv2"]


@META_ARCH_REGISTRY.register()
class GLIPv2(GLIP):
    """GLIP, and what the paper adds to it; every addition may be left out.

    L_GLIPv2 = L_loc + L_intra + L_inter + L_mlm (Eq. 2): the first two are GLIP's own losses.

    Args:
        contrast: L_inter, the inter-image region-word contrastive loss (Eq. 4-5); None: without.
        mlm_head: L_mlm, masked language modeling on the fused words (Section 3.1); None: without.
        mask_head: language-guided masks of the boxes found (Section 3.1, Appendix D.1), which are
            the same with and without it; in training "instances" have `gt_masks` (BitMasks). None:
            boxes only.
        vqa_head: answers questions (Appendix D.2); None: without.
        caption_head: writes captions (Section 3.3, Appendix D.2); None: without.
        presence_head: tells whether a phrase is in the image at all (not of the paper); None:
            without.
        others: the arguments of `GLIP`; and further task heads, which become attributes of these
            names.

    Raises:
        ConfigError: a head does not fit the model, see `TaskHead.check`.
    """

    @configurable
    def __init__(
        self,
        *,
        contrast: RegionWordContrast | None = None,
        mlm_head: MaskedLanguageHead | None = None,
        mask_head: LanguageMaskHead | None = None,
        vqa_head: VqaHead | None = None,
        caption_head: CaptionHead | None = None,
        presence_head: PresenceHead | None = None,
        **others,
    ):
        further = {name: x for name, x in others.items() if isinstance(x, TaskHead)}
        super().__init__(**{name: x for name, x in others.items() if name not in further})
        self.contrast = contrast
        if contrast is not None:
            text = self.language_backbone, self.prompt_embeddings
            self.name_embeddings = NameEmbeddings(*text, contrast)
        self.mlm_head = mlm_head
        self.mask_head = mask_head
        self.vqa_head = vqa_head
        self.caption_head = caption_head
        self.presence_head = presence_head
        for name, head in further.items():
            setattr(self, name, head)
        for head in self.task_heads.values():
            head.check(self)
