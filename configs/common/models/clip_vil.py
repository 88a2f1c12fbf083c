"""CLIP-ViL: CLIP's ResNet-50x4 and one BERT over its last map and the words of the text.

The pre-trained model CLIP-ViL_p of "How Much Can CLIP Benefit Vision-and-Language Tasks?" (Shen et
al. 2022). Theirs: the towers, the stride of 32, a position for each row and column of the map, the
single stream of BERT-base's embeddings and twelve layers, the sizes of images. GLIPv2's: the heads
of the tasks (their VQA head reads the first word alone), and the words that ground in the map, one
anchor for each cell. Chosen here: BatchNorm is frozen, as in this project's other recipes.

Another tower: `model.backbone.name=resnet50_clip` or `resnet101_clip`, with
`model.neck.channels=2048`. The weights of CLIP are named by `model.backbone.pretrained`, a file, or
timm's "resnet50x4_clip.openai".
"""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling.fusion import SingleStreamEncoder

from .glip_clip_resnet50 import model

model.backbone = model.backbone.bottom_up
model.backbone.name = "resnet50x4_clip"
model.backbone.out_features = ("res5",)
model.language_backbone.num_layers = 0  # the neck has them
model.neck = L(SingleStreamEncoder)(
    model="${..language_backbone.model}",
    pretrained="${..language_backbone.pretrained}",
    channels=2560,
    text_channels=768,
    grid_size=25,  # of images of up to 800 pixels
)
model.head.channels = "${..neck.text_channels}"
model.head.num_levels = 1
model.anchor_generator.sizes = [[256]]
model.anchor_generator.strides = [32]
