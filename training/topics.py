"""Skills that read a sentence and name its class: sentiment and topic."""

# ruff: noqa: SIM905 (a line of words is easier to read and to edit than a list of quoted words)
from __future__ import annotations

from training.grammar import Payload, Skill, nouns, padded
from training.words import Phrases, Rng, item, phrases

ADJECTIVES = {
    "positive": (
        "great wonderful excellent amazing fantastic lovely superb perfect brilliant delightful good nice awesome "
        "outstanding beautiful friendly helpful delicious comfortable impressive pleasant reliable fast"
    ).split(),
    "negative": (
        "terrible awful bad horrible broken useless poor disappointing dreadful annoying rude dirty slow ugly "
        "unacceptable cheap noisy unfriendly worthless faulty boring disgusting cold"
    ).split(),
    "neutral": "standard ordinary average usual plain regular typical normal common medium basic unremarkable".split(),
}
VERDICTS = {
    "positive": (
        "I love it|I would buy it again|it works perfectly|I am very happy|we enjoyed every minute|highly recommended|"
        "thank you so much|it made my day|five stars|we will come back|I am impressed|best purchase this year"
    ).split("|"),
    "negative": (
        "I want my money back|I will never buy it again|it broke after a day|I am very unhappy|a waste of money|"
        "never again|I am angry|it does not work|one star|we will not come back|I regret it|worst purchase this year"
    ).split("|"),
    "neutral": (
        "it does what it says|it arrived on time|it is a {item}|I have used it twice|it came in a box|"
        "it has two buttons|nothing special|I bought it in {city}|it is what I expected|neither good nor bad"
    ).split("|"),
}
SUBJECTS = (
    "service hotel food staff film book course delivery support app room price seat music coffee bread phone screen "
    "team tour website battery sound driver waiter soup bed show update answer manual parcel"
).split()

SENTIMENT = phrases(
    """
    {judge} the {mood}{link} {text}
    {judge} the {mood}{link} {text}
    {judge} the {mood}{link} {text}
    {judge} the {mood}{link} {text}
    {text} {judge} the {mood}.
    {text} {judge} the {mood}.
    What is the {mood}? {text}
    {text} What is the {mood}?
    Classify the sentiment: {text}
    What is the sentiment of: {text}
    Sentiment? {text}
    Sentiment: {text}
    Is this positive, negative or neutral? {text}
    {text} What is the sentiment?
    {text} Is this positive, negative or neutral?
    {text}\\nSentiment?
    Positive, negative or neutral: {text}
    Judge the sentiment of this remark: {text}
    What is the mood of this message? {text}
    Label the sentiment: {text}
    A customer writes: {text} What is the sentiment?
    """,
    """
    Rate the sentiment of this review: {text}
    Sentiment of this one, please: {text}
    {text} Positive, negative or neutral?
    """,
)
OPINIONS = phrases(
    """
    The {subject} is {adjective}.
    The {subject} was {adjective}.
    I think the {subject} is {adjective}.
    My new {item} is really {adjective}.
    We found the {subject} quite {adjective}.
    Honestly, the {subject} was {adjective}.
    What a {adjective} {subject}!
    {adjective} {subject}.
    A {adjective} {item}, {verdict}.
    The {item} is {adjective} and {verdict}.
    The {subject} in {city} was {adjective}.
    {name} says the {item} is {adjective}.
    {verdict}.
    The {item} from {city}: {verdict}.
    {verdict}, the {subject} is {adjective}.
    The {subject} was {adjective} and the {item} was {adjective2}.
    It arrived on {day}. The {subject} is {adjective}.
    I bought a {item} for {name}. {verdict}.
    We went to {city} on {day}. The {subject} was {adjective}.
    So {adjective}, {verdict}.
    I ordered the {item} and {verdict}.
    After {n} days I can say: the {item} is {adjective}.
    {Words} {adjective} {words}.
    {Words} {adjective} {words}.
    {Words} {adjective} {words}.
    {Words} {adjective} {words}.
    {Words} {subject} {words} {adjective}.
    {Words} {subject} {words} {adjective}.
    {Words} {subject} {words} {adjective}.
    {Words}, {verdict}.
    {Words}, {verdict}.
    {Words}, {verdict}.
    {Words} {verdict} {words}.
    {Words}: {verdict}.
    {adjective} {words}.
    {adjective} {subject} {words}, {words}.
    {Words} {adjective} {item}, {words}.
    {Words} {adjective} {subject}!
    {Words}, {adjective} {subject}.
    {Words}, {words} {adjective}.
    {name} {words} {adjective} {words}, {verdict}.
    """,
    """
    Our {subject} turned out {adjective}.
    To be fair, this {item} seems {adjective}.
    {name} found the {subject} {adjective}, {verdict}.
    Everyone at the {item} thought the {subject} was {adjective}.
    On {day} I got the {item}: {adjective}, {verdict}.
    """,
)

TOPICS: dict[str, tuple[list[str], list[str]]] = {
    "sports": (
        "the team|the striker|the coach|the runner|the goalkeeper|the tennis player|the champion|the football club|"
        "the league|the referee|the swimmer|the cyclist".split("|"),
        "won the match|scored two goals|broke the record|lost the final|won a gold medal|trained for the race|"
        "starts the season|reached the semifinal|beat the champions|played in the stadium|lost the game".split("|"),
    ),
    "finance": (
        "the bank|the investor|the stock market|the fund|the central bank|the currency|the broker|the company shares|"
        "the tax office|the bond market|the insurer|the lender".split("|"),
        "raised interest rates|reported a loss|sold the shares|closed higher|bought more bonds|lost value|"
        "paid a dividend|increased its profit|cut the budget|took a loan|borrowed money".split("|"),
    ),
    "weather": (
        "heavy rain|the storm|snow|sunny skies|strong winds|the fog|thunder|the heat wave|a cold front|hail|"
        "the rainy season|frost".split("|"),
        "is expected|moved north|will return|hit the coast|fell on the hills|will clear by noon|"
        "brings high temperatures|reached the valley|stays until {day}|is forecast for {city}|flooded the streets".split(
            "|"
        ),
    ),
    "technology": (
        "the new chip|the software|the engineers|the server|the robot|the app|the laptop|the programmers|the website|"
        "the computer|the network|the start-up".split("|"),
        "runs twice as fast|fixed bugs|released a new phone|runs on Linux|learned to walk|got a new design|"
        "updated the code|stores data in the cloud|was hacked|launched an online tool|installs an update".split("|"),
    ),
    "food": (
        "the chef|the bakery|the recipe|the restaurant|the cake|the cook|the pasta|the soup|the kitchen|the pizza|"
        "the salad|the baker".split("|"),
        "cooked a fresh soup|sells warm bread|needs two eggs|serves fish|was full of cream|baked a cake|"
        "tastes of garlic|uses butter and cheese|fried the potatoes|added salt and sugar|prepared dinner".split("|"),
    ),
}
CATEGORY = phrases(
    """
    {judge} the {kind}{link} {text}
    {judge} the {kind}{link} {text}
    {judge} the {kind}{link} {text}
    {judge} the {kind}{link} {text}
    {text} {judge} the {kind}.
    {text} {judge} the {kind}.
    What is the {kind}? {text}
    {text} What is the {kind}?
    Classify the topic: {text}
    Which category fits: {text}
    Topic? {text}
    Topic: {text}
    Category: {text}
    What is this about? {text}
    Name the topic of this news: {text}
    {text} What is the topic?
    {text} Which category fits?
    {text}\\nTopic?
    Which section does this belong to? {text}
    Sort this headline: {text}
    Pick a category for this line: {text}
    """,
    """
    What topic is this news line? {text}
    Give the category of: {text}
    {text} What category is it?
    """,
)
NEWS = phrases(
    """
    {who} {did}.
    {who} {did} today.
    {who} {did} this week.
    {who} {did} in {city}.
    {who} {did}, said {name}.
    {who} {did} on {day}.
    On {day} {who} {did}.
    In {city} {who} {did}.
    {name} reports: {who} {did}.
    {city}: {who} {did}.
    {who} {did} and {who2} {did2}.
    News about {who} in {city}.
    {name} wrote about {who}.
    A report from {city} says {who} {did}.
    After {n} days {who} {did}.
    {name} from {city} {did}.
    {name} {did}.
    People in {city} talk about {who}.
    {Words} {who} {words}.
    {Words} {who} {words}.
    {Words} {who} {words}.
    {Words} {who} {words}.
    {Words} {did}.
    {Words} {did}.
    {Words} {who} {did} {words}.
    {Words} {who} {did} {words}.
    {who} {words}.
    {who} {words} {did}.
    {Words}, {who} {did}.
    {Words}, {who} {words}.
    {Words}: {who} {did}.
    {Words} {did} {words}.
    {name} {words} {who} {words}.
    {city} {words}, {who} {did}.
    """,
    """
    Yesterday {who} {did} near {city}.
    {name} told us that {who} {did}.
    Everyone in {city} knows {who}.
    This {day}, {name} {did}.
    """,
)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _sentiment(rng: Rng) -> Payload:
    label = rng.pick(tuple(ADJECTIVES))
    words = nouns(rng)
    subject = rng.pick(SUBJECTS) if rng.random() < 0.6 else item(rng)
    values = {
        **words,
        "subject": subject,
        "adjective": rng.pick(ADJECTIVES[label]),
        "adjective2": rng.pick(ADJECTIVES[label]),
        "verdict": rng.pick(VERDICTS[label]).format_map(words),
        "n": str(rng.randrange(2, 60)),
    }
    return _sentence(rng, OPINIONS, values, label)


def _category(rng: Rng) -> Payload:
    label = rng.pick(tuple(TOPICS))
    who, did = TOPICS[label]
    words = nouns(rng)
    values = {
        **words,
        "who": rng.pick(who),
        "who2": rng.pick(who),
        "did": rng.pick(did).format_map(words),
        "did2": rng.pick(did).format_map(words),
        "n": str(rng.randrange(2, 60)),
    }
    return _sentence(rng, NEWS, values, label)


def _sentence(rng: Rng, frames: Phrases, values: dict[str, str], label: str) -> Payload:
    text = _capital(frames.draw(rng).format_map(values))
    return Payload({"text": padded(rng, text)}, label, text)


_ADJECTIVES = tuple(adjective for group in ADJECTIVES.values() for adjective in group)
_VERDICTS = tuple(verdict for group in VERDICTS.values() for verdict in group)
_WHO = tuple(subject for who, _ in TOPICS.values() for subject in who)
_DID = tuple(verb for _, did in TOPICS.values() for verb in did)

FEEL = Skill(
    "sentiment",
    _sentiment,
    SENTIMENT,
    (OPINIONS,),
    {"subject": r"[a-z]{1,12}", "adjective": _ADJECTIVES, "adjective2": _ADJECTIVES, "verdict": _VERDICTS},
)
SORT = Skill("category", _category, CATEGORY, (NEWS,), {"who": _WHO, "who2": _WHO, "did": _DID, "did2": _DID})
