"""The companies behind the `shop` suite: six tables of a small retailer, made from a seed.

Names are put together from short lists of this project's own. What the tables and columns are called, their style,
varies between companies, so that a policy has to look at the schema.
"""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mentor_gym.suites.sql_plans import TableName

# Table -> its columns with their types; a reference names the table that it leads to.
COLUMNS: dict[str, dict[str, str]] = {
    "branches": {"id": "INTEGER", "city": "TEXT", "opened": "INTEGER"},
    "staff": {"id": "INTEGER", "name": "TEXT", "branch": "branches", "role": "TEXT", "salary": "INTEGER"},
    "customers": {"id": "INTEGER", "name": "TEXT", "city": "TEXT", "joined": "TEXT"},
    "products": {"id": "INTEGER", "name": "TEXT", "category": "TEXT", "price": "REAL", "stock": "INTEGER"},
    "orders": {"id": "INTEGER", "customer": "customers", "branch": "branches", "day": "TEXT", "status": "TEXT"},
    "items": {"order": "orders", "product": "products", "quantity": "INTEGER"},
}
# Style -> table -> what it and its columns are called, in the order above.
STYLES = {
    "plain": {
        "branches": ("branches", "id city opened"),
        "staff": ("staff", "id name branch_id role salary"),
        "customers": ("customers", "id name city joined"),
        "products": ("products", "id name category price stock"),
        "orders": ("orders", "id customer_id branch_id ordered status"),
        "items": ("order_items", "order_id product_id quantity"),
    },
    "formal": {
        "branches": ("stores", "store_no location open_since"),
        "staff": ("employees", "employee_no full_name store_no job wage"),
        "customers": ("clients", "client_no full_name town client_since"),
        "products": ("articles", "article_no title department unit_price in_stock"),
        "orders": ("purchases", "purchase_no client_no store_no purchase_date state"),
        "items": ("purchase_lines", "purchase_no article_no amount"),
    },
    "short": {
        "branches": ("shop", "sid place year"),
        "staff": ("worker", "wid who sid task pay"),
        "customers": ("buyer", "bid who place since"),
        "products": ("good", "gid label kind cost count"),
        "orders": ("sale", "xid bid sid day status"),
        "items": ("sale_good", "xid gid qty"),
    },
    "unseen": {
        "branches": ("tbl_outlet", "outlet_key outlet_city outlet_year"),
        "staff": ("tbl_person", "person_key person_name outlet_ref person_post person_income"),
        "customers": ("tbl_patron", "patron_key patron_name patron_city patron_entry"),
        "products": ("tbl_ware", "ware_key ware_name ware_group ware_tag_price ware_left"),
        "orders": ("tbl_deal", "deal_key patron_ref outlet_ref deal_date deal_stage"),
        "items": ("tbl_deal_ware", "deal_ref ware_ref ware_pieces"),
    },
}
SEEN_STYLES = ("plain", "formal", "short")
ROLES = ("manager", "cashier", "driver", "advisor")
STATUSES = ("open", "paid", "shipped", "cancelled")
MONTHS = tuple(f"{year}-{month:02}" for year, month in [(2024, m) for m in range(7, 13)] + [(2025, 1), (2025, 2)])


@dataclass(frozen=True)
class Words:
    """What companies are made of.

    Attributes:
        first: First names.
        last: Last names.
        cities: Where branches and customers are.
        products: Names of products by category.
    """

    first: tuple[str, ...]
    last: tuple[str, ...]
    cities: tuple[str, ...]
    products: dict[str, tuple[str, ...]]


WORDS = {
    "common": Words(
        first=(
            "Ada", "Amir", "Bela", "Bruno", "Carla", "Chen", "Dora", "Elif", "Emil", "Fatou", "Greta", "Hana",
            "Igor", "Ilse", "Jonas", "Kofi", "Lena", "Malik", "Nora", "Omar", "Petra", "Ravi", "Sofia", "Tomas",
        ),
        last=(
            "Abel", "Baker", "Costa", "Dahl", "Evans", "Fischer", "Garcia", "Hansen", "Ito", "Jansen", "Kaya",
            "Lindt", "Moreau", "Novak", "Okoro", "Perez", "Quist", "Rossi", "Silva", "Tanaka", "Urban", "Vega",
            "Weber", "Young",
        ),
        cities=(
            "Aarhus", "Basel", "Cork", "Delft", "Essen", "Ghent", "Hanoi", "Izmir", "Jena", "Kyoto", "Leeds",
            "Malaga", "Nantes", "Oslo", "Porto", "Quito",
        ),
        products={
            "furniture": (
                "oak table", "pine shelf", "desk chair", "folding stool", "bed frame", "coat rack", "bench",
            ),
            "lighting": ("desk lamp", "floor lamp", "wall light", "lantern", "light bulb", "candle holder"),
            "textiles": ("wool rug", "cotton towel", "linen sheet", "curtain", "cushion", "blanket"),
            "kitchen": ("tea pot", "frying pan", "bread knife", "soup bowl", "coffee mill", "glass jar", "ladle"),
            "garden": ("watering can", "hand rake", "flower pot", "hose", "bird house", "garden gnome"),
            "toys": ("wooden train", "kite", "puzzle", "spinning top", "teddy bear", "board game"),
        },
    ),
    "unseen": Words(
        first=(
            "Anouk", "Boris", "Cyrus", "Dilara", "Enzo", "Farah", "Goran", "Hilda", "Ivo", "Jorge", "Kaori",
            "Lars",
        ),
        last=(
            "Adeyemi", "Bianchi", "Claes", "Duarte", "Eriksen", "Fontana", "Gruber", "Hoang", "Ivanov", "Jung",
            "Keller", "Laurent", "Meyer", "Nilsen",
        ),
        cities=("Turin", "Utrecht", "Vienna", "Windsor", "York", "Zadar", "Bergen", "Cadiz", "Dover", "Evora"),
        products={
            "tools": ("claw hammer", "hand drill", "pliers", "wood saw", "spirit level", "tape measure", "file"),
            "stationery": ("ink pen", "notebook", "stapler", "paper tray", "calendar", "ruler"),
            "sports": ("skipping rope", "tennis racket", "yoga mat", "dumb bell", "foot ball", "swim cap"),
            "music": ("tin whistle", "drum", "ukulele", "music stand", "tuning fork", "maracas"),
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Company:
    """The rows of a company, by table, with columns as in `COLUMNS`."""

    branches: tuple[tuple[int, str, int], ...]
    staff: tuple[tuple[int, str, int, str, int], ...]
    customers: tuple[tuple[int, str, str, str], ...]
    products: tuple[tuple[int, str, str, float, int], ...]
    orders: tuple[tuple[int, int, int, str, str], ...]
    items: tuple[tuple[int, int, int], ...]


@lru_cache(maxsize=128)
def make_company(number: int, words: str) -> Company:
    """Make a company from its number and the name of its `WORDS`; the same ones give the same company.

    >>> company = make_company(0, "common")
    >>> len(company.branches), len(company.products), company == make_company(0, "common")
    (4, 24, True)
    """
    rng = random.Random(f"shop/{words}/{number}")
    source = WORDS[words]
    people = [f"{first} {last}" for first in source.first for last in source.last]
    rng.shuffle(people)
    cities = rng.sample(source.cities, 8)
    branches = tuple((i, city, rng.randint(1985, 2021)) for i, city in enumerate(cities[:4], start=1))
    staff = tuple(
        (i, people.pop(), rng.randint(1, 4), rng.choice(ROLES), 50 * rng.randint(36, 90)) for i in range(1, 15)
    )
    customers = tuple(
        (i, people.pop(), rng.choice(cities), f"{rng.randint(2015, 2023)}-{_month_and_day(rng)}")
        for i in range(1, 29)
    )
    goods = [(name, category) for category, names in source.products.items() for name in names]
    products = tuple(
        (i, name, category, rng.randint(40, 2400) / 20, rng.randint(0, 90))
        for i, (name, category) in enumerate(rng.sample(goods, 24), start=1)
    )
    # Orders come in the order of their days; some customers have none, and some products are in none.
    days = sorted(f"{rng.choice(MONTHS)}-{rng.randint(1, 28):02}" for _ in range(64))
    buyers = rng.sample(range(1, 29), 21)
    orders = tuple(
        (i, rng.choice(buyers), rng.randint(1, 4), day, rng.choice(STATUSES))
        for i, day in enumerate(days, start=1)
    )
    sold = rng.sample(range(1, 25), 20)
    items = tuple(
        (order, product, rng.randint(1, 6))
        for order, *_ in orders
        for product in sorted(rng.sample(sold, rng.randint(1, 4)))
    )
    return Company(branches, staff, customers, products, orders, items)


def _month_and_day(rng: random.Random) -> str:
    return f"{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def table_names(style: str) -> dict[str, TableName]:
    """Return what a style calls the tables and columns.

    >>> names = table_names("formal")
    >>> names["orders"], names["orders"].day
    ('purchases', 'purchase_date')
    """
    return {
        table: TableName(name, dict(zip(COLUMNS[table], columns.split())))
        for table, (name, columns) in STYLES[style].items()
    }


def fill(connection: sqlite3.Connection, state: dict[str, Any]) -> None:
    """Create and fill the tables of a company.

    Args:
        connection: To an empty database.
        state: A task's state: `company`, a number; `words` and `style`, names in `WORDS` and `STYLES`.

    >>> connection = sqlite3.connect(":memory:")
    >>> fill(connection, {"company": 0, "words": "common", "style": "formal"})
    >>> connection.execute("SELECT COUNT(*) FROM purchases").fetchall()
    [(64,)]
    """
    company = make_company(state["company"], state["words"])
    names = table_names(state["style"])
    for table, columns in COLUMNS.items():
        name = names[table]
        parts = []
        for column, kind in columns.items():
            called = getattr(name, column)
            if kind in COLUMNS:
                parts.append(f"{called} INTEGER REFERENCES {names[kind]}({names[kind].id})")  # type: ignore[attr-defined]
            else:
                parts.append(f"{called} {kind}{' PRIMARY KEY' if column == 'id' else ''}")
        if table == "items":
            parts.append(f"PRIMARY KEY ({name.order}, {name.product})")  # type: ignore[attr-defined]
        connection.execute(f"CREATE TABLE {name} ({', '.join(parts)})")
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {name} VALUES ({marks})", getattr(company, table))
