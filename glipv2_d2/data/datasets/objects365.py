"""Objects365: class names of version 2 have typing errors in the released json."""

from __future__ import annotations

# As released -> as meant. The list that CenterNet2, Detic and MM-Grounding-DINO repair, and the
# three that they left ("Ballon", "Billards", "Noddles").
OBJECTS365_V2_NAMES = {
    "Bakset": "Basket",
    "Ballon": "Balloon",
    "Billards": "Billiards",
    "Buttefly": "Butterfly",
    "Campel": "Camel",
    "Dinning Table": "Dining Table",
    "Extention Cord": "Extension Cord",
    "Hamimelon": "Hami melon",
    "Hotair ballon": "Hot air balloon",
    "Meat ball": "Meatball",
    "Moniter/TV": "Monitor/TV",
    "Mushroon": "Mushroom",
    "Noddles": "Noodles",
    "Table Teniis paddle": "Table Tennis paddle",
    "Tape Measur/ Ruler": "Tape Measure/Ruler",
    "Tea pot": "Teapot",
}


def clean_objects365_name(name: str) -> str:
    """A class name of Objects365 v2 without blanks at its ends and typing errors."""
    name = " ".join(name.split())
    return OBJECTS365_V2_NAMES.get(name, name)
