"""What the kinds of tasks of the `shop` suite draw their values with, and the joins of their solutions."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mentor_gym.suites.shop_data import MONTHS, ROLES, STATUSES, Company
from mentor_gym.suites.sql_plans import Slots


class Draw:
    """The random choices of one task, from what its company has.

    Args:
        rng: Source of all choices.
        company: The company.
    """

    def __init__(self, rng: random.Random, company: Company) -> None:
        self.rng = rng
        self.company = company

    def __getitem__(self, slot: str) -> Any:
        """Choose a value by what it is: a slot's name."""
        choose, company = self.rng.choice, self.company
        match slot:
            case "customer":
                return choose(company.customers)[1]
            case "city":
                return choose(company.customers)[2]
            case "place":
                return choose(company.branches)[1]
            case "person":
                return choose(company.staff)[1]
            case "product":
                return choose(company.products)[1]
            case "category":
                return choose(company.products)[2]
            case "order":
                return choose(company.orders)[0]
            case "status":
                return choose(STATUSES)
            case "role":
                return choose(ROLES)
            case "month":
                return choose(MONTHS)
            case "day":
                return choose(company.orders)[3]
        raise KeyError(slot)


def pick(*names: str, **ranges: tuple[int, int]) -> Callable[[Draw], Slots]:
    """Return a draw of values by their names, and of numbers from ranges."""

    def draw(choice: Draw) -> Slots:
        numbers = {name: choice.rng.randint(low, high) for name, (low, high) in ranges.items()}
        return {**{name: choice[name] for name in names}, **numbers}

    return draw


def draw_price(choice: Draw) -> Slots:
    """Draw: a product, and a price for it in steps of five cents."""
    return {"product": choice["product"], "price": choice.rng.randint(20, 1800) / 20}


def draw_move(choice: Draw) -> Slots | None:
    """Draw: a customer, and another city; None when the same city is drawn."""
    name, city = choice.rng.choice(choice.company.customers)[1:3]
    new = choice["city"]
    return {"customer": name, "city": new} if new != city else None


def draw_newcomer(choice: Draw) -> Slots | None:
    """Draw: a customer whom the company does not have yet; None when it does."""
    # A new name from those of the company's own people, so that held-out words stay held out.
    first = choice["customer"].split()[0]
    name = f"{first} {choice['person'].split()[1]}"
    if name in [row[1] for row in (*choice.company.customers, *choice.company.staff)]:
        return None
    return {"customer": name, "city": choice["city"], "day": f"2025-03-{choice.rng.randint(1, 28):02}"}


def draw_new_line(choice: Draw) -> Slots | None:
    """Draw: an order, a product that is not in it, and how many; None when it is in it."""
    order, product = choice["order"], choice.rng.choice(choice.company.products)
    if (order, product[0]) in [item[:2] for item in choice.company.items]:
        return None
    return {"order": order, "product": product[1], "n": choice.rng.randint(2, 9)}


def draw_sale(choice: Draw) -> Slots | None:
    """Draw: as `draw_new_line`, of what the stock has; None when it has less."""
    slots = draw_new_line(choice)
    stock = {row[1]: row[4] for row in choice.company.products}
    return slots if slots is not None and stock[slots["product"]] >= slots["n"] else None


def draw_new_order(choice: Draw) -> Slots:
    """Draw: what a new order holds."""
    slots = {slot: choice[slot] for slot in ("customer", "place", "product")}
    return {**slots, "day": f"2025-03-{choice.rng.randint(1, 28):02}", "n": choice.rng.randint(2, 9)}


def draw_two_places(choice: Draw) -> Slots:
    """Draw: two different branches."""
    first, second = choice.rng.sample(choice.company.branches, 2)
    return {"place": first[1], "other": second[1]}


def draw_transfer(choice: Draw) -> Slots:
    """Draw: two different branches, and a role."""
    return {**draw_two_places(choice), "role": choice["role"]}


def draw_two_products(choice: Draw) -> Slots:
    """Draw: two different products."""
    first, second = choice.rng.sample(choice.company.products, 2)
    return {"product": first[1], "other": second[1]}


# Joins; each table goes by the first letter of its name.
OC = "{orders} o JOIN {customers} c ON c.{customers.id} = o.{orders.customer}"
OB = "{orders} o JOIN {branches} b ON b.{branches.id} = o.{orders.branch}"
SB = "{staff} s JOIN {branches} b ON b.{branches.id} = s.{staff.branch}"
IP = "{items} i JOIN {products} p ON p.{products.id} = i.{items.product}"
IPO = IP + " JOIN {orders} o ON o.{orders.id} = i.{items.order}"
IPOC = IPO + " JOIN {customers} c ON c.{customers.id} = o.{orders.customer}"
WORTH = "i.{items.quantity} * p.{products.price}"
CUSTOMER_ID = "SELECT {customers.id} FROM {customers} WHERE {customers.name} = {customer}"
PRODUCT_ID = "SELECT {products.id} FROM {products} WHERE {products.name} = {product}"
BRANCH_ID = "SELECT {branches.id} FROM {branches} WHERE {branches.city} = {place}"
OTHER_ID = "SELECT {branches.id} FROM {branches} WHERE {branches.city} = {other}"
