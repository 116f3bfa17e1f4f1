"""Writes train.jsonl and heldout.jsonl: spoken requests and the one-line JSON they stand for.

    python -P presets/demo/make_demo.py [FOLDER]

One narrow job that is checkable to the letter. Seeded, so that the files come out byte for byte
the same; no request of one file is in the other. All of it was written for TuneDeck.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

SEED = 20261
TRAIN_ROWS = 1000
HELDOUT_ROWS = 120

NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jonas", "Karim",
    "Laura", "Maria", "Nora", "Oscar", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wendy", "Yusuf",
    "Zoe", "Mom", "Dad",
)  # fmt: skip
ROOMS = (
    "kitchen", "bedroom", "hall", "office", "garage", "garden", "bathroom", "attic", "cellar",
    "nursery", "library", "porch",
)  # fmt: skip
ITEMS = (
    "apples", "eggs", "bananas", "onions", "candles", "oranges", "tomatoes", "batteries",
    "carrots", "bagels", "potatoes", "pears", "cookies", "stamps", "pencils", "towels",
)  # fmt: skip
FOODS = ("pasta", "tea", "rice", "eggs", "bread", "pizza", "soup", "cake", "coffee", "beans")
MUSIC = (
    "jazz", "rock", "piano", "techno", "blues", "opera", "salsa", "folk", "reggae", "metal",
    "soul", "disco", "swing", "country", "violin", "pop",
)  # fmt: skip
CITIES = (
    "Oslo", "Lima", "Cairo", "Paris", "Tokyo", "Delhi", "Rome", "Quito", "Accra", "Dublin",
    "Lisbon", "Vienna", "Boston", "Sydney", "Madrid", "Berlin", "Athens", "Dallas", "Prague",
    "Miami", "Zurich", "Milan", "Seoul", "Bergen",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "tomorrow")
TASKS = (
    "water the plants", "pay the rent", "feed the cat", "take the pills", "book a table",
    "charge the car", "take out the trash", "renew the passport", "clean the oven",
    "return the books", "walk the dog", "fix the bike", "call the bank", "wash the car",
    "buy a gift", "mow the lawn", "back up the laptop", "order the cake", "visit the dentist",
    "sign the contract", "paint the fence", "sell the couch", "print the tickets",
    "pack the bags",
)  # fmt: skip
OPENINGS = ("", "hey, ", "ok, ", "hi, ", "listen, ", "good morning, ", "hello, ", "one thing: ")
CLOSINGS = ("", " please", ", thanks", ", thank you", ", would you", ", that is all")

Made = tuple[str, dict[str, object]]
Maker = Callable[[random.Random], Made]


def timer(draw: random.Random) -> Made:
    minutes, food = draw.randint(2, 90), draw.choice(FOODS)
    said = draw.choice(
        ("set a timer for {minutes} minutes for the {food}",
         "start a {minutes} minute timer for the {food}",
         "the {food} needs {minutes} minutes")
    )  # fmt: skip
    wanted = {"do": "timer", "minutes": minutes, "for": food}
    return said.format(minutes=minutes, food=food), wanted


def alarm(draw: random.Random) -> Made:
    time, day = f"{draw.randint(4, 23)}:{draw.choice(range(0, 60, 5)):02d}", draw.choice(DAYS)
    said = draw.choice(
        ("wake me up at {time} on {day}", "set an alarm for {day} at {time}",
         "get me out of bed at {time} {day}")
    )  # fmt: skip
    return said.format(time=time, day=day), {"do": "alarm", "at": time, "day": day}


def light(draw: random.Random) -> Made:
    room, percent = draw.choice(ROOMS), draw.randint(1, 99)
    said = draw.choice(
        ("dim the {room} light to {percent} percent",
         "turn the light in the {room} to {percent} percent",
         "{percent} percent light in the {room}")
    )  # fmt: skip
    wanted = {"do": "light", "room": room, "percent": percent}
    return said.format(room=room, percent=percent), wanted


def message(draw: random.Random) -> Made:
    name, day = draw.choice(NAMES), draw.choice(DAYS)
    said = draw.choice(
        ("tell {name} I am free on {day}", "text {name} that {day} works",
         "let {name} know {day} is fine")
    )  # fmt: skip
    return said.format(name=name, day=day), {"do": "message", "to": name, "day": day}


def shop(draw: random.Random) -> Made:
    count, item = draw.randint(2, 30), draw.choice(ITEMS)
    said = draw.choice(
        ("add {count} {item} to my list", "put {count} {item} on the shopping list",
         "we need to buy {count} {item}")
    )  # fmt: skip
    return said.format(count=count, item=item), {"do": "shop", "item": item, "count": count}


def play(draw: random.Random) -> Made:
    music, room = draw.choice(MUSIC), draw.choice(ROOMS)
    said = draw.choice(
        ("play some {music} in the {room}", "put on {music} in the {room}",
         "I would like {music} in the {room}")
    )  # fmt: skip
    return said.format(music=music, room=room), {"do": "play", "music": music, "room": room}


def weather(draw: random.Random) -> Made:
    city, day = draw.choice(CITIES), draw.choice(DAYS)
    said = draw.choice(
        ("what is the weather in {city} on {day}", "will it rain in {city} {day}",
         "how warm is it in {city} {day}")
    )  # fmt: skip
    return said.format(city=city, day=day), {"do": "weather", "city": city, "day": day}


def remind(draw: random.Random) -> Made:
    task, day = draw.choice(TASKS), draw.choice(DAYS)
    said = draw.choice(
        ("remind me to {task} on {day}", "do not let me forget to {task} {day}",
         "I must remember to {task} {day}")
    )  # fmt: skip
    return said.format(task=task, day=day), {"do": "remind", "task": task, "day": day}


MAKERS: tuple[Maker, ...] = (timer, alarm, light, message, shop, play, weather, remind)


def make_rows() -> tuple[list[str], list[str]]:
    """The lines of both files. Neither a request nor an answer occurs twice."""
    draw = random.Random(SEED)
    seen: set[str] = set()
    rows = []
    while len(rows) < TRAIN_ROWS + HELDOUT_ROWS:
        said, wanted = MAKERS[len(rows) % len(MAKERS)](draw)
        answer = json.dumps(wanted)
        if answer in seen:
            continue
        seen.add(answer)
        request = f"{draw.choice(OPENINGS)}{said}{draw.choice(CLOSINGS)}"
        turns = [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]
        rows.append(json.dumps({"messages": turns}))
    draw.shuffle(rows)
    return rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, lines in zip(("train.jsonl", "heldout.jsonl"), make_rows(), strict=True):
        text = "\n".join(lines) + "\n"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
