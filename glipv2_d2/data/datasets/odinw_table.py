"""The 35 data sets of ODinW as a table: folders, class names, caption knowledge.

The facts are those of the official configs (``configs/odinw_13``, ``configs/odinw_35``): folder,
file layout, category override and caption prompt of each. Two data sets are asked by other names
in the 13-set than in the 35-set (``names_35``).
"""

from __future__ import annotations

from typing import NamedTuple

# Where a split keeps its json: in a folder of its own ("train", "valid", "test", "mini_val"), or
# all splits beside each other in one folder with the images.
FOLDERS = "folders"
FLAT = "flat"

SHOTS = (1, 3, 5, 10)
SEEDS = (3, 30, 300)


class OdinwRow(NamedTuple):
    """One data set.

    Attributes:
        name: "odinw_" + name + "_" + split is registered; also the key of EvalAI's result file.
        folder: below ``odinw/``.
        classes: names after the official override, by category id from 1.
        in_13: one of the 13 data sets of GLIP's paper.
        names_35: the override of the 35-set where it is another one.
        layout: ``FOLDERS`` or ``FLAT``.
        minival: a smaller validation set exists; the official configs select models by it.
        test_is_val: the test split is the validation split (PascalVOC has no public test set).
        knowledge: (prefix, name, suffix) for each class, written around the name at test time.
    """

    name: str
    folder: str
    classes: tuple[str, ...]
    in_13: bool = False
    names_35: tuple[str, ...] = ()
    layout: str = FOLDERS
    minival: bool = False
    test_is_val: bool = False
    knowledge: tuple[tuple[str, str, str], ...] = ()


ODINW_ROWS = (
    OdinwRow(
        "AerialMaritimeDrone_large",
        "AerialMaritimeDrone/large",
        ("boat", "car", "dock", "jetski", "lift"),
        in_13=True,
    ),
    OdinwRow(
        "AerialMaritimeDrone_tiled",
        "AerialMaritimeDrone/tiled",
        ("boat", "car", "dock", "jetski", "lift"),
    ),
    OdinwRow(
        "AmericanSignLanguageLetters",
        "AmericanSignLanguageLetters/American Sign Language Letters.v1-v1.coco",
        (
            "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q",
            "R", "S", "T", "U", "V", "W", "X", "Y", "Z",
        ),
    ),
    OdinwRow(
        "Aquarium",
        "Aquarium/Aquarium Combined.v2-raw-1024.coco",
        ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"),
        in_13=True,
        knowledge=(
            (" ", "fish", ""),
            ("", "jellyfish", ""),
            ("", "penguin", " , which is black and white"),
            ("", "puffin", " with orange beaks "),
            ("", "shark", ""),
            ("", "starfish", ""),
            ("", "stingray", " which is flat and round"),
        ),
    ),
    OdinwRow(
        "BCCD",
        "BCCD/BCCD.v3-raw.coco",
        ("Platelets", "RBC", "WBC"),
    ),
    OdinwRow(
        "ChessPieces",
        "ChessPieces/Chess Pieces.v23-raw.coco",
        (
            "bishop", "black bishop", "black king", "black knight", "black pawn", "black queen",
            "black rook", "white bishop", "white king", "white knight", "white pawn",
            "white queen", "white rook",
        ),
    ),
    OdinwRow(
        "CottontailRabbits",
        "CottontailRabbits",
        ("Cottontail-Rabbit",),
        in_13=True,
        names_35=("rabbit",),
    ),
    OdinwRow(
        "DroneControl",
        "DroneControl/Drone Control.v3-raw.coco",
        ("follow", "follow_hand", "land", "land_hand", "null", "object", "takeoff", "takeoff-hand"),
        minival=True,
    ),
    OdinwRow(
        "EgoHands_generic",
        "EgoHands/generic",
        ("hand",),
        in_13=True,
        minival=True,
        knowledge=(
            (" ", "hand", " of a person"),
        ),
    ),
    OdinwRow(
        "EgoHands_specific",
        "EgoHands/specific",
        ("myleft", "myright", "yourleft", "yourright"),
        minival=True,
    ),
    OdinwRow(
        "HardHatWorkers",
        "HardHatWorkers/raw",
        ("head", "helmet", "person"),
    ),
    OdinwRow(
        "MaskWearing",
        "MaskWearing/raw",
        ("mask", "no-mask"),
    ),
    OdinwRow(
        "MountainDewCommercial",
        "MountainDewCommercial",
        ("bottle",),
    ),
    OdinwRow(
        "NorthAmericaMushrooms",
        "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco",
        ("CoW", "chanterelle"),
        in_13=True,
        names_35=("flat mushroom", "yellow mushroom"),
    ),
    OdinwRow(
        "OxfordPets_by-breed",
        "OxfordPets/by-breed",
        (
            "cat-Abyssinian", "cat-Bengal", "cat-Birman", "cat-Bombay", "cat-British_Shorthair",
            "cat-Egyptian_Mau", "cat-Maine_Coon", "cat-Persian", "cat-Ragdoll",
            "cat-Russian_Blue", "cat-Siamese", "cat-Sphynx", "dog-american_bulldog",
            "dog-american_pit_bull_terrier", "dog-basset_hound", "dog-beagle", "dog-boxer",
            "dog-chihuahua", "dog-english_cocker_spaniel", "dog-english_setter",
            "dog-german_shorthaired", "dog-great_pyrenees", "dog-havanese", "dog-japanese_chin",
            "dog-keeshond", "dog-leonberger", "dog-miniature_pinscher", "dog-newfoundland",
            "dog-pomeranian", "dog-pug", "dog-saint_bernard", "dog-samoyed",
            "dog-scottish_terrier", "dog-shiba_inu", "dog-staffordshire_bull_terrier",
            "dog-wheaten_terrier", "dog-yorkshire_terrier",
        ),
        minival=True,
    ),
    OdinwRow(
        "OxfordPets_by-species",
        "OxfordPets/by-species",
        ("cat", "dog"),
        minival=True,
    ),
    OdinwRow(
        "PKLot",
        "PKLot/640",
        ("space-empty", "space-occupied"),
        minival=True,
    ),
    OdinwRow(
        "Packages",
        "Packages/Raw",
        ("package",),
        in_13=True,
        knowledge=(
            ("there is a ", "package", " on the porch"),
        ),
    ),
    OdinwRow(
        "PascalVOC",
        "PascalVOC",
        (
            "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
            "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
            "train", "tvmonitor",
        ),
        in_13=True,
        test_is_val=True,
    ),
    OdinwRow(
        "Raccoon",
        "Raccoon/Raccoon.v2-raw.coco",
        ("raccoon",),
        in_13=True,
    ),
    OdinwRow(
        "ShellfishOpenImages",
        "ShellfishOpenImages/raw",
        ("Crab", "Lobster", "Shrimp"),
        in_13=True,
    ),
    OdinwRow(
        "ThermalCheetah",
        "ThermalCheetah",
        ("cheetah", "human"),
    ),
    OdinwRow(
        "UnoCards",
        "UnoCards/raw",
        ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14"),
        minival=True,
    ),
    OdinwRow(
        "VehiclesOpenImages",
        "VehiclesOpenImages/416x416",
        ("Ambulance", "Bus", "Car", "Motorcycle", "Truck"),
        in_13=True,
        minival=True,
    ),
    OdinwRow(
        "WildfireSmoke",
        "WildfireSmoke",
        ("smoke",),
    ),
    OdinwRow(
        "boggleBoards",
        "boggleBoards/416x416AutoOrient/export",
        (
            "Q", "a", "an", "b", "c", "d", "e", "er", "f", "g", "h", "he", "i", "in", "j", "k",
            "l", "m", "n", "o", "o ", "p", "q", "qu", "r", "s", "t", "t\\", "th", "u", "v", "w",
            "wild", "x", "y", "z",
        ),
        layout=FLAT,
    ),
    OdinwRow(
        "brackishUnderwater",
        "brackishUnderwater/960x540",
        ("crab", "fish", "jellyfish", "shrimp", "small_fish", "starfish"),
        minival=True,
    ),
    OdinwRow(
        "dice",
        "dice/mediumColor/export",
        ("1", "2", "3", "4", "5", "6"),
        layout=FLAT,
    ),
    OdinwRow(
        "openPoetryVision",
        "openPoetryVision/512x512",
        (
            "American Typewriter", "Andale Mono", "Apple Chancery", "Arial", "Avenir",
            "Baskerville", "Big Caslon", "Bradley Hand", "Brush Script MT", "Chalkboard",
            "Comic Sans MS", "Copperplate", "Courier", "Didot", "Futura", "Geneva", "Georgia",
            "Gill Sans", "Helvetica", "Herculanum", "Impact", "Kefa", "Lucida Grande", "Luminari",
            "Marker Felt", "Menlo", "Monaco", "Noteworthy", "Optima", "PT Sans", "PT Serif",
            "Palatino", "Papyrus", "Phosphate", "Rockwell", "SF Pro", "SignPainter", "Skia",
            "Snell Roundhand", "Tahoma", "Times New Roman", "Trebuchet MS", "Verdana",
        ),
        minival=True,
    ),
    OdinwRow(
        "pistols",
        "pistols/export",
        ("pistol",),
        in_13=True,
        layout=FLAT,
    ),
    OdinwRow(
        "plantdoc",
        "plantdoc/416x416",
        (
            "Apple Scab Leaf", "Apple leaf", "Apple rust leaf", "Bell_pepper leaf",
            "Bell_pepper leaf spot", "Blueberry leaf", "Cherry leaf", "Corn Gray leaf spot",
            "Corn leaf blight", "Corn rust leaf", "Peach leaf", "Potato leaf",
            "Potato leaf early blight", "Potato leaf late blight", "Raspberry leaf",
            "Soyabean leaf", "Soybean leaf", "Squash Powdery mildew leaf", "Strawberry leaf",
            "Tomato Early blight leaf", "Tomato Septoria leaf spot", "Tomato leaf",
            "Tomato leaf bacterial spot", "Tomato leaf late blight", "Tomato leaf mosaic virus",
            "Tomato leaf yellow virus", "Tomato mold leaf",
            "Tomato two spotted spider mites leaf", "grape leaf", "grape leaf black rot",
        ),
    ),
    OdinwRow(
        "pothole",
        "pothole",
        ("pothole",),
        in_13=True,
        knowledge=(
            ("there are some ", "holes", " on the road"),
        ),
    ),
    OdinwRow(
        "selfdrivingCar",
        "selfdrivingCar/fixedLarge/export",
        (
            "biker", "car", "pedestrian", "trafficLight", "trafficLight-Green",
            "trafficLight-GreenLeft", "trafficLight-Red", "trafficLight-RedLeft",
            "trafficLight-Yellow", "trafficLight-YellowLeft", "truck",
        ),
        layout=FLAT,
    ),
    OdinwRow(
        "thermalDogsAndPeople",
        "thermalDogsAndPeople",
        ("dog", "person"),
        in_13=True,
    ),
    OdinwRow(
        "websiteScreenshots",
        "websiteScreenshots",
        ("button", "field", "heading", "iframe", "image", "label", "link", "text"),
        minival=True,
    ),
)
