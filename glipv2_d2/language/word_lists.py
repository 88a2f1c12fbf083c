"""Word lists of the rule-based noun-phrase extractor (English)."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Stand before a noun and are no part of the phrase; behind one of these comes no verb.
ARTICLES = _words("a an the its his her their our your my")
DETERMINERS = ARTICLES | _words(
    "this that these those some any each every all both either neither no another other whose "
    "several many few much most more such which what very really quite rather"
)

NUMBERS = _words("one two three four five six seven eight nine ten eleven twelve")

PREPOSITIONS = _words(
    "about above across after against along alongside amid among amongst around as at atop away "
    "before behind below beneath beside besides between beyond by despite down during except for "
    "from in inside into like near nearby next of off on onto opposite out outside over past per "
    "since through throughout till to together toward towards under underneath until unlike up "
    "upon via with within without apart"
)
FUNCTION_WORDS = _words(
    "and or but nor so yet while when where whereas who whom than then if because although though "
    "i you he she it we they me him us them himself herself itself themselves something someone "
    "anything anyone everything everyone nothing there here not also just only too still already "
    "almost again ago now today outdoors indoors somewhere everywhere back how why yes none"
)
# Verbs that captions are full of. Words that are mostly nouns ("park", "drink", "watch",
# "fly", "stand", "show", "work") are left out in the form that they share with the noun.
AUXILIARIES = _words(
    "is are was were be been being am do does did has have had can could will would shall should "
    "may might must"
)
# These alone make a sentence; "can", "will", "may", "must", "might" and "do" are names as well.
FINITE = _words("is are was were am does did has had isn't aren't wasn't weren't")
# Make one before "on the sofa".
POSTURES = _words("sit sits sat stand stands stood lie lies lay lean leans hang hangs hung")
IMPERATIVES = _words("detect find locate")
VERBS = AUXILIARIES | _words(
    "get gets got go goes gone went come comes came hold holds held wear wears wore "
    "worn sit sits sat stood lie lies lay lain ride rides rode ridden eat eats ate eaten drank "
    "drunk walks walked runs ran jumps jumped looks looked plays played carry carries carried "
    "shows showed shown take takes took taken make makes made give gives gave given flies flew "
    "flown swim swims swam catch catches caught throw throws threw thrown pulls pulled pushes "
    "pushed lean leans leaned hang hangs hung reads talk talks talked smiles smiled laughs laughed "
    "sleeps slept works worked uses used watches watched see sees saw seen find finds found put "
    "puts keep keeps kept let lets say says said appear appears appeared seem seems seemed contain "
    "contains contained include includes included surround surrounds surrounded filled attached "
    "located placed parked seated dressed called named covered touches touched crosses crossed "
    "climb climbs climbed perform performs performed poses posed try tries tried prepare prepares "
    "prepared stands detect locate"
)
BREAKS = PREPOSITIONS | FUNCTION_WORDS | VERBS

# Words of place: "star left (of the ring)", "(on the) left", "(on) top (of it)".
PLACES = _words(
    "left right top bottom front rear side middle center centre edge corner end upper lower"
)
# Say how much of what follows "of": no thing of their own.
QUANTITIES = _words("lot lots couple number variety kind kinds type types sort plenty bit amount")
# Name one thing together with what follows "of".
COLLECTIVES = _words(
    "group pair bunch piece slice glass cup bowl bottle plate row set pile stack crowd herd flock "
    "basket box bag can loaf team bouquet jar tray bucket pot sheet"
)

# A phrase of these alone names nothing that has a place in the image: besides stop words those of
# pictures, of shops and pages in the web, and of time.
GENERIC = (
    BREAKS
    | DETERMINERS
    | PLACES
    | QUANTITIES
    | _words(
        "image images photo photos photograph photographs photography photographer picture "
        "pictures pic pics shot shots snapshot view views closeup close-up portrait portraits "
        "illustration illustrations vector vectors graphic graphics clipart thumbnail screenshot "
        "mockup template templates design designs background backgrounds scene scenes stock video "
        "videos footage gif jpg jpeg png svg pdf hd 4k resolution copyright credit credits "
        "source caption description "
        "price prices sale sales offer offers discount deal deals shipping delivery free new best "
        "top quality brand collection collections item items product products size order buy "
        "available online wholesale review reviews easy great perfect "
        "website web www http https com blog link click download uploads upload email hashtag "
        "facebook instagram twitter youtube pinterest tumblr shutterstock "
        "idea ideas tip tips guide tutorial recipe recipes example examples information details "
        "time times day days week month year years morning afternoon evening night today tomorrow "
        "yesterday summer autumn winter season weekend monday tuesday wednesday thursday friday "
        "saturday sunday january february april may june july august september october "
        "november december moment moments "
        "thing things way ways part parts place places style name names fact reason story fun love "
        "life beauty group pair bunch set"
    )
)

# -ing words that are things; all others count as verbs.
ING_NOUNS = _words(
    "building ceiling clothing ring earring string king wing swing railing painting drawing "
    "lighting wedding evening morning pudding icing dressing stuffing crossing awning spring sling "
    "duckling legging siding flooring wiring plumbing sibling darling dumpling herring lightning "
    "wetting offspring"
)
# -ing words that are part of a name before these nouns only: "a dining table", but "dining".
ING_MODIFIERS = {
    "baking": _words("sheet tray dish soda"),
    "bowling": _words("ball balls alley pin pins"),
    "boxing": _words("glove gloves ring"),
    "cutting": _words("board boards mat"),
    "dining": _words("table tables room hall car chair chairs area"),
    "fishing": _words("rod rods boat boats pole poles net line"),
    "flying": _words("saucer disc"),
    "frying": _words("pan pans"),
    "hiking": _words("boot boots trail pole poles"),
    "living": _words("room rooms"),
    "packing": _words("tape box"),
    "parking": _words("lot lots meter meters space garage sign"),
    "racing": _words("car cars bike bikes horse horses"),
    "riding": _words("boots helmet"),
    "rocking": _words("chair chairs horse"),
    "rolling": _words("pin pins"),
    "running": _words("shoe shoes track"),
    "sewing": _words("machine machines needle"),
    "shopping": _words("cart carts bag bags mall center basket trolley"),
    "sleeping": _words("bag bags pad"),
    "steering": _words("wheel wheels"),
    "swimming": _words("pool pools trunks suit cap goggles"),
    "vending": _words("machine machines"),
    "walking": _words("stick sticks cane"),
    "washing": _words("machine machines"),
    "watering": _words("can cans"),
    "wrapping": _words("paper"),
}
# Words in -ly that are no adverbs.
LY_NOUNS = _words(
    "butterfly dragonfly family lily jelly belly ugly curly bubbly silly woolly wooly fly holly "
    "trolley grizzly chilly"
)
