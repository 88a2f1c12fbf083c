"""What the papers' mixes consist of: data sets, and how often an epoch each image is seen."""

OBJECTS365 = [["objects365_train", 1.0]]
# Without COCO's own images, as in GLIP's public recipes and in GLIPv2-T, so that COCO stays unseen.
GOLDG = [["goldg_mixed_no_coco_train", 1.0], ["goldg_flickr_train", 1.0]]
CAP4M = [["cap4m_train", 1.0]]
CC15M_SBU = [["cc15m_sbu_train", 1.0]]

# GLIP-L's, about as many samples of each in an epoch as GLIP's config says: 2.8, 2.0, 1.2 and 1.3
# million.
FOUR_ODS = [
    ["objects365_train", 4.6],  # x 0.61 million images
    ["openimages_train", 1.15],  # x 1.74 million
    ["visual_genome_no_coco_train", 23.0],  # x 0.052 million
    ["imagenet_boxes_train", 2.5],  # x 0.54 million
]
# How often COCO is seen is not in the paper; the name of the authors' file says eight copies.
FIVE_ODS = [
    *(entry for entry in FOUR_ODS if entry[0] != "visual_genome_no_coco_train"),
    ["visual_genome_train", 12.0],  # x 0.1 million
    ["coco_2017_train", 8.0],
]

# Copies of GoldG and the packing of captions as in GLIP's config for GLIP-L. GLIPv2-B's GoldG is
# MDETR's (Section 4), with COCO's images.
GOLDG_COPIES = [["goldg_mixed_no_coco_train", 4.0], ["goldg_flickr_train", 8.0]]
GOLDG_COPIES_WITH_COCO = [["goldg_mixed_train", 4.0], ["goldg_flickr_train", 8.0]]
# Of the pairs only: the captions of GoldG stay alone, as in the official code.
PACKED_PAIRS = dict(
    negative_captions={"cc15m_sbu_train": 20}, plain_caption_prob=0.4, full_captions_prob=0.5
)

# Images, phrases, questions and captions of an epoch.
COCO_IMAGES = 118_287
LVIS_IMAGES = 100_170
PHRASECUT_PHRASES = 310_816
FLICKR30K_CAPTIONS = 149_000
VQAV2_QUESTIONS = 647_500  # of train2014, and of val2014 without the development split
GQA_QUESTIONS = 1_075_000  # balanced, train and val
SNLI_VE_SENTENCES = 529_500
COCO_CAPTIONS = 566_700  # of Karpathy's train and restval
GROUNDED_CAPTIONS = COCO_CAPTIONS + FLICKR30K_CAPTIONS

# The lists of answers, written by datasets/prepare_vqa_answers.py.
VQAV2_ANSWERS = "${oc.env:DETECTRON2_DATASETS,datasets}/vqav2/answers.json"
GQA_ANSWERS = "${oc.env:DETECTRON2_DATASETS,datasets}/gqa/answers.json"
