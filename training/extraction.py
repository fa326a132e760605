"""Skills that copy a part of a message: e-mail address, URL, JSON record."""

from __future__ import annotations

import json

from training.grammar import Payload, Skill, nouns, padded
from training.words import COLORS, Phrases, Rng, city, email, integer, name, phrases, thing, url

EMAIL = phrases(
    """
    {verb} the email{link} {text}
    {verb} the email{link} {text}
    {verb} the email address{link} {text}
    {verb} the email address{link} {text}
    {verb} the e-mail address{link} {text}
    {verb} the e-mail address{link} {text}
    {verb} the email{link} {text}
    {verb} the email{link} {text}
    {verb} only the email{link} {text}
    {text} {verb} the email.
    {text} {verb} the email address.
    {text} {verb} the e-mail address.
    {text}\\n{verb} the email.
    Email? {text}
    Email: {text}
    What is the email address? {text}
    Which email address is in this text? {text}
    {text} What is the email address?
    {text} Which email is it?
    """,
    """
    Pull the email from this message: {text}
    Which email does this mention? {text}
    {text} Name the email in it.
    """,
)
URL = phrases(
    """
    {verb} the URL{link} {text}
    {verb} the URL{link} {text}
    {verb} the link{link} {text}
    {verb} the link{link} {text}
    {verb} the web address{link} {text}
    {verb} the web address{link} {text}
    {verb} the URL{link} {text}
    {verb} the URL{link} {text}
    {verb} only the URL{link} {text}
    {text} {verb} the URL.
    {text} {verb} the link.
    {text} {verb} the web address.
    {text}\\n{verb} the URL.
    URL? {text}
    Link? {text}
    Link: {text}
    What is the link? {text}
    Which URL is in this text? {text}
    {text} What is the link?
    {text} Which URL is it?
    """,
    """
    Pull the link from this message: {text}
    Which URL does this mention? {text}
    {text} Name the URL in it.
    """,
)
_MAIL_FRAMES = phrases(
    """
    Please contact {email} for the details.
    You can reach us at {email} today.
    The new address is {email} as of {day}.
    Send the report to {email} before noon.
    We moved everything to {email} last week.
    For help write to {email} or call us.
    {email} is my mail.
    {email}
    My email is {email}.
    {name} can be reached at {email}.
    Write to {email}, not to {name}.
    Ask {name} in {city} ({email}) about it.
    Contact: {email}
    Please add {email} to the list.
    The {item} was ordered by {email} on {day}.
    Invite {email} and {name} to the meeting.
    I am {name}, my address is {email}.
    Forward the {item} to {email}, please.
    If the {item} breaks, mail {email}.
    Reply to {email}. Regards, {name}
    {Words} {email} {words}.
    {Words} {email} {words}.
    {Words} {email} {words}.
    {Words} {email} {words}.
    {Words} {email} {words}.
    {Words} {email} {words}.
    {Words} {email} {words}.
    {Words} {email} {words}.
    {Words} {email}.
    {Words} {email}.
    {Words}, {email} {words}.
    {Words}, {email} {words}.
    {Words} {email}, {words}.
    {Words} {email}, {words}.
    {Words}: {email}.
    {email} {words}.
    {Words} ({email}) {words}.
    {Words}: {email}, {words}.
    {name} {words} {email} {words}.
    {Words} {name}, {email} {words}.
    {Words} {item} {email} {words}!
    """,
    """
    {name} uses {email} for work.
    Bills for the {item} go to {email} every month.
    Kindly copy {email} when you answer.
    Our office in {city} answers at {email}.
    From now on {email} handles returns.
    """,
)
_LINK_FRAMES = phrases(
    """
    See {url} for more.
    The page is at {url} now.
    You can read it at {url} today.
    {name} found {url} on {day}.
    Please open {url} and log in.
    The {item} is described at {url} in full.
    We moved to {url} last week.
    {url} is our new page.
    {url}
    Download the {item} from {url} before {day}.
    Visit {url}, then call {name}.
    Our shop ({url}) sells the {item}.
    Link: {url}
    The form is here: {url}
    Book your room in {city} on {url} please.
    {name} sent me {url} yesterday.
    I read on {url} that the {item} is new.
    Check {url} for the dates.
    {Words} {url} {words}.
    {Words} {url} {words}.
    {Words} {url} {words}.
    {Words} {url} {words}.
    {Words} {url} {words}.
    {Words} {url} {words}.
    {Words} {url} {words}.
    {Words} {url} {words}.
    {Words} {url}.
    {Words} {url}.
    {Words}, {url} {words}.
    {Words}, {url} {words}.
    {Words} {url}, {words}.
    {Words} {url}, {words}.
    {Words}: {url}.
    {url} {words}.
    {Words} ({url}) {words}.
    {Words}: {url}, {words}.
    {name} {words} {url} {words}.
    {Words} {name}, {url} {words}.
    {Words} {item} {url} {words}!
    """,
    """
    The slides of {name} are under {url} for a week.
    Have a look at {url} when you can.
    Anyone in {city} may use {url} for free.
    Instructions for the {item}: {url}
    On {url} you can track the parcel.
    """,
)

JSON = phrases(
    """
    Extract JSON: {text}
    Return JSON for: {text}
    Convert to JSON: {text}
    JSON? {text}
    JSON: {text}
    {verb} JSON{link} {text}
    {verb} JSON{link} {text}
    {verb} the JSON{link} {text}
    Make JSON of this: {text}
    Turn this into JSON: {text}
    Give me the JSON for: {text}
    Write as JSON: {text}
    Write this as JSON: {text}
    Convert this into JSON: {text}
    {text} {verb} JSON.
    {text} Convert to JSON.
    {text} Write as JSON.
    {text}\\nReturn JSON.
    """,
    """
    Put this in JSON form: {text}
    Parse to JSON: {text}
    {text} Answer in JSON.
    """,
)
_PERSON_FRAMES = phrases(
    """
    {name} is {age} years old and lives in {city}.
    {name}, {age}, lives in {city}.
    {name} from {city} is {age} years old.
    {name} lives in {city} and is {age}.
    At {age}, {name} lives in {city}.
    {name} is {age} and comes from {city}.
    In {city} lives {name}, who is {age}.
    {name} ({age}) works in {city}.
    My name is {name}, I am {age} and live in {city}.
    The new colleague {name} is {age} and moved to {city}.
    """,
    """
    {name}, aged {age}, has a flat in {city}.
    Meet {name} from {city}, who is {age} years old.
    """,
)
_ORDER_FRAMES = phrases(
    """
    {name} ordered {n} units of the {thing}.
    {name} ordered {n} {thing}.
    {name} bought {n} units of the {thing}.
    {name} needs {n} {thing}.
    {n} {thing} were ordered by {name}.
    Please send {n} {thing} to {name}.
    {name} wants {n} units of the {thing} by {day}.
    Order from {name}: {n} {thing}.
    {name} takes {n} of the {thing}.
    Pack {n} {thing} for {name}.
    """,
    """
    {name} asked for {n} units of the {thing}.
    Reserve {n} {thing} for {name}.
    """,
)
_PRODUCT_FRAMES = phrases(
    """
    The {color} {thing} costs {price} euros.
    The {color} {thing} is {price} euros.
    A {color} {thing} for {price} euros.
    The {thing} in {color} costs {price} euros.
    We sell the {color} {thing} for {price} euros.
    {price} euros for the {color} {thing}.
    The price of the {color} {thing} is {price} euros.
    Our {thing} is {color} and costs {price} euros.
    You pay {price} euros for a {color} {thing}.
    """,
    """
    This {color} {thing} sells at {price} euros.
    For {price} euros you get the {thing} in {color}.
    """,
)


def _in_context(frames: Phrases) -> Phrases:
    """The frames, and each again with loose words before or after it."""
    more: list[str] = []
    for frame in frames.seen:
        inner = frame if frame.startswith("{") else frame[0].lower() + frame[1:]
        more += [f"{{Few}} {inner}", f"{{Few}}, {inner}", f"{{Few}}: {frame}", f"{frame[:-1]} {{few}}."]
    return Phrases(frames.seen * 3 + tuple(more), frames.unseen)


def _email(rng: Rng) -> Payload:
    address = email(rng)
    text = _MAIL_FRAMES.draw(rng).format(email=address, **nouns(rng))
    return Payload({"text": padded(rng, text)}, address, address)


def _url(rng: Rng) -> Payload:
    link = url(rng)
    text = _LINK_FRAMES.draw(rng).format(url=link, **nouns(rng))
    return Payload({"text": padded(rng, text)}, link, link)


def _json(rng: Rng) -> Payload:
    kind = rng.randrange(3)
    record: dict[str, str | int]
    if kind == 0:
        record = {"name": name(rng), "age": rng.randrange(1, 100), "city": city(rng)}
        values = {k: str(v) for k, v in record.items()}
        return _record(rng, _PERSON, values, record)
    if kind == 1:
        record = {"name": name(rng), "item": thing(rng), "quantity": integer(rng, 4)}
        values = {"name": str(record["name"]), "thing": str(record["item"]), "n": str(record["quantity"])}
        return _record(rng, _ORDER, values, record)
    record = {"item": thing(rng), "color": rng.pick(COLORS), "price": integer(rng, 4)}
    values = {"thing": str(record["item"]), "color": str(record["color"]), "price": str(record["price"])}
    return _record(rng, _PRODUCT, values, record)


_PERSON, _ORDER, _PRODUCT = (_in_context(block) for block in (_PERSON_FRAMES, _ORDER_FRAMES, _PRODUCT_FRAMES))


def _record(rng: Rng, frames: Phrases, values: dict[str, str], record: dict[str, str | int]) -> Payload:
    answer = json.dumps(record)
    frame, gaps = frames.draw(rng), nouns(rng)
    if rng.clear:
        while frame.endswith("{thing} {few}.") or (" " not in gaps["Few"] and frame.startswith("{Few} {name}")):
            frame, gaps = frames.draw(rng), nouns(rng)
    return Payload({"text": padded(rng, frame.format_map({**gaps, **values}))}, answer, answer)


FIND_EMAIL = Skill("email", _email, EMAIL, (_MAIL_FRAMES,))
FIND_URL = Skill("url", _url, URL, (_LINK_FRAMES,))
FIND_RECORD = Skill("json", _json, JSON, (_PERSON, _ORDER, _PRODUCT))
