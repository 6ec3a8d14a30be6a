"""The kinds of tasks of the `shop` suite that change its database; see `mentor_gym.suites.shop_kinds`."""

from __future__ import annotations

from mentor_gym.suites.shop_draws import (
    BRANCH_ID,
    CUSTOMER_ID,
    OTHER_ID,
    PRODUCT_ID,
    draw_move,
    draw_new_line,
    draw_new_order,
    draw_newcomer,
    draw_price,
    draw_sale,
    draw_two_places,
    pick,
)
from mentor_gym.suites.sql_plans import SqlKind

CHANGES = (
    SqlKind(
        "set-price",
        "state",
        draw_price,
        (
            ("UPDATE {products} SET {products.price} = {price} WHERE {products.name} = {product}",),
            (PRODUCT_ID, "UPDATE {products} SET {products.price} = {price} WHERE {products.id} = {result}"),
        ),
        (
            "[Set|Change] the price of the {product} to {price}.",
            "The {product} costs {price} from now on. [Change|Update] its price.",
            "Make {price} the new price of the {product}.",
        ),
        ("The new price of the {product} is {price}. Write it down.",),
        ("From today we ask {price} for the {product}. Enter that.",),
    ),
    SqlKind(
        "restock",
        "state",
        pick("product", n=(5, 60)),
        (
            ("UPDATE {products} SET {products.stock} = {products.stock} + {n} WHERE {products.name} = {product}",),
            (
                "SELECT {products.stock} + {n} FROM {products} WHERE {products.name} = {product}",
                "UPDATE {products} SET {products.stock} = {result} WHERE {products.name} = {product}",
            ),
        ),
        (
            "{n} more pieces of the {product} have arrived. Add them to the stock.",
            "Raise the stock of the {product} by {n}.",
            "Add {n} to the stock of the {product}.",
        ),
        ("The {product}: {n} pieces came in. Correct the stock.",),
        ("A delivery brought {n} pieces of the {product}. Book them into the stock.",),
    ),
    SqlKind(
        "move-customer",
        "state",
        draw_move,
        (
            ("UPDATE {customers} SET {customers.city} = {city} WHERE {customers.name} = {customer}",),
            (CUSTOMER_ID, "UPDATE {customers} SET {customers.city} = {city} WHERE {customers.id} = {result}"),
        ),
        (
            "The customer {customer} has moved to {city}. [Change|Update] the city.",
            "[Set|Change] the city of the customer {customer} to {city}.",
            "The customer {customer} lives in {city} now. Correct our records.",
        ),
        ("New city of the customer {customer}: {city}. Write it down.",),
        ("The home of the customer {customer} is {city} from today. Enter that.",),
    ),
    SqlKind(
        "add-customer",
        "state",
        draw_newcomer,
        (
            (
                "INSERT INTO {customers} ({customers.name}, {customers.city}, {customers.joined}) "
                "VALUES ({customer}, {city}, {day})",
            ),
            (
                "SELECT MAX({customers.id}) + 1 FROM {customers}",
                "INSERT INTO {customers} VALUES ({result}, {customer}, {city}, {day})",
            ),
        ),
        (
            "Add the customer {customer} from {city}, who joined on {day}, with the next free number.",
            "A new customer: {customer}, {city}, joined on {day}. Add a row with the next number.",
            "Enter {customer} from {city} as a customer since {day}; the number is the next one.",
        ),
        ("{customer} of {city} became a customer on {day}. Add this, with the number that comes next.",),
        ("Since {day} we have a new customer, {customer} from {city}. Record it under the next number.",),
    ),
    SqlKind(
        "cancel-open",
        "state",
        pick("customer"),
        (
            (
                "UPDATE {orders} SET {orders.status} = 'cancelled' WHERE {orders.status} = 'open' "
                "AND {orders.customer} = (" + CUSTOMER_ID + ")",
            ),
            (
                CUSTOMER_ID,
                "UPDATE {orders} SET {orders.status} = 'cancelled' "
                "WHERE {orders.status} = 'open' AND {orders.customer} = {result}",
            ),
        ),
        (
            "{customer} has given up: make every open order of this customer cancelled.",
            "Change the status of all open orders of {customer} to cancelled.",
            "Set the open orders of {customer} to cancelled.",
        ),
        ("The orders of {customer} that are open are now cancelled. Write it down.",),
        ("Whatever {customer} still has open, mark it as cancelled.",),
    ),
    SqlKind(
        "ship-paid",
        "state",
        pick("place", "month"),
        (
            (
                BRANCH_ID,
                "UPDATE {orders} SET {orders.status} = 'shipped' WHERE {orders.status} = 'paid' "
                "AND substr({orders.day}, 1, 7) = {month} AND {orders.branch} = {result}",
            ),
            (
                "UPDATE {orders} SET {orders.status} = 'shipped' WHERE {orders.status} = 'paid' "
                "AND substr({orders.day}, 1, 7) = {month} AND {orders.branch} = (" + BRANCH_ID + ")",
            ),
        ),
        (
            "Change the status of all paid orders of {month} at the branch in {place} to shipped.",
            "The branch in {place} has sent off its paid orders of {month}. Set them to shipped.",
            "Set every paid order that the {place} branch got in {month} to shipped.",
        ),
        ("Paid orders of {month} at the {place} branch are now shipped. Write it down.",),
        ("What was ordered in {place} during {month} and is paid has left the house. Mark it as shipped.",),
    ),
    SqlKind(
        "raise-salaries",
        "state",
        pick("place", n=(20, 200)),
        (
            (
                BRANCH_ID,
                "UPDATE {staff} SET {staff.salary} = {staff.salary} + {n} WHERE {staff.branch} = {result}",
            ),
            (
                "UPDATE {staff} SET {staff.salary} = {staff.salary} + {n} WHERE {staff.branch} = ("
                + BRANCH_ID
                + ")",
            ),
        ),
        (
            "Raise the salary of everybody at the branch in {place} by {n}.",
            "Everybody who works at the {place} branch earns {n} more from now on. [Change|Update] the salaries.",
            "Add {n} to each salary at the branch in {place}.",
        ),
        ("The branch in {place}: all salaries go up by {n}. Write it down.",),
        ("The team in {place} gets {n} more each. Enter that.",),
    ),
    SqlKind(
        "cut-prices",
        "state",
        pick("category", n=(1, 2)),
        (
            (
                "UPDATE {products} SET {products.price} = {products.price} - {n} "
                "WHERE {products.category} = {category}",
            ),
        ),
        (
            "Lower the price of every {category} product by {n}.",
            "All {category} products cost {n} less from now on. [Change|Update] the prices.",
            "Take {n} off the price of each product in the category {category}.",
        ),
        ("The category {category}: all prices go down by {n}. Write it down.",),
        ("We ask {n} less for anything of the category {category}. Enter that.",),
    ),
    SqlKind(
        "add-line",
        "state",
        draw_new_line,
        (
            (
                "INSERT INTO {items} SELECT {order}, {products.id}, {n} FROM {products} WHERE {products.name} = {product}",
            ),
            (PRODUCT_ID, "INSERT INTO {items} VALUES ({order}, {result}, {n})"),
        ),
        (
            "Add {n} pieces of the {product} to order {order}.",
            "Order {order} also needs {n} pieces of the {product}. Add them.",
            "Put {n} pieces of the {product} into order {order}.",
        ),
        ("Order {order}: {n} pieces of the {product} come on top. Write it down.",),
        ("Somebody wants {n} pieces of the {product} as well, in order {order}. Enter that.",),
    ),
    SqlKind(
        "delete-order",
        "state",
        pick("order"),
        (
            (
                "DELETE FROM {items} WHERE {items.order} = {order}",
                "DELETE FROM {orders} WHERE {orders.id} = {order}",
            ),
        ),
        (
            "Delete order {order} and everything in it.",
            "Remove order {order} with its [lines|contents].",
            "Order {order} was a mistake. Delete it and what it holds.",
        ),
        ("Take order {order} out of the database, its contents too.",),
        ("There should be no trace left of order {order} or of what was in it.",),
    ),
    SqlKind(
        "new-order",
        "state",
        draw_new_order,
        (
            (
                "INSERT INTO {orders} ({orders.customer}, {orders.branch}, {orders.day}, {orders.status}) "
                "VALUES ((" + CUSTOMER_ID + "), (" + BRANCH_ID + "), {day}, 'open')",
                "INSERT INTO {items} VALUES ((SELECT MAX({orders.id}) FROM {orders}), (" + PRODUCT_ID + "), {n})",
            ),
        ),
        (
            "On {day}, {customer} ordered {n} pieces of the {product} at the branch in {place}. Enter the order, with the status open and the next free number.",
            "Enter an order of {customer} at the {place} branch, placed on {day}: {n} pieces of the {product}. It is open and has the next number.",
            "A new open order under the next free number: {customer}, branch in {place}, {day}, {n} pieces of the {product}. Add it.",
        ),
        (
            "{customer} wants {n} pieces of the {product}, asked for in {place} on {day}. Record this order as open, under the number that comes next.",
        ),
        (
            "In {place}, on {day}, {n} pieces of the {product} were ordered by {customer}. Write it down as open, with the next number.",
        ),
    ),
    SqlKind(
        "sell",
        "state",
        draw_sale,
        (
            (
                "INSERT INTO {items} SELECT {order}, {products.id}, {n} FROM {products} WHERE {products.name} = {product}",
                "UPDATE {products} SET {products.stock} = {products.stock} - {n} WHERE {products.name} = {product}",
            ),
            (
                "UPDATE {products} SET {products.stock} = {products.stock} - {n} WHERE {products.name} = {product}",
                PRODUCT_ID,
                "INSERT INTO {items} VALUES ({order}, {result}, {n})",
            ),
        ),
        (
            "Add {n} pieces of the {product} to order {order} and take them off the stock.",
            "Order {order} gets {n} pieces of the {product}, from the stock. [Change|Update] both.",
            "Take {n} pieces of the {product} out of the stock and put them into order {order}.",
        ),
        ("{n} pieces of the {product} go from the stock into order {order}. Write both down.",),
        (
            "We still had the {product}, so {n} pieces left the stock for order {order}. Enter that, in both places.",
        ),
    ),
    SqlKind(
        "move-and-cancel",
        "state",
        draw_move,
        (
            (
                "UPDATE {customers} SET {customers.city} = {city} WHERE {customers.name} = {customer}",
                "UPDATE {orders} SET {orders.status} = 'cancelled' WHERE {orders.status} <> 'shipped' "
                "AND {orders.customer} = (" + CUSTOMER_ID + ")",
            ),
            (
                CUSTOMER_ID,
                "UPDATE {orders} SET {orders.status} = 'cancelled' "
                "WHERE {orders.status} <> 'shipped' AND {orders.customer} = {result}",
                "UPDATE {customers} SET {customers.city} = {city} WHERE {customers.id} = {result}",
            ),
        ),
        (
            "{customer} has moved to {city}. [Change|Update] the city and make every order of this customer that is not shipped cancelled.",
            "Set the city of {customer} to {city}, and all orders of {customer} to cancelled unless they are shipped.",
            "The customer {customer} lives in {city} now; orders that are not shipped are cancelled. Write both down.",
        ),
        (
            "New city of {customer}: {city}. Orders of this customer that are not shipped are off; mark them as cancelled.",
        ),
        (
            "Enter that {customer} is in {city} now, and that what this customer ordered is cancelled, except shipped orders.",
        ),
    ),
    SqlKind(
        "close-branch",
        "state",
        draw_two_places,
        (
            (
                "UPDATE {staff} SET {staff.branch} = ("
                + OTHER_ID
                + ") WHERE {staff.branch} = ("
                + BRANCH_ID
                + ")",
                "UPDATE {orders} SET {orders.branch} = ("
                + OTHER_ID
                + ") WHERE {orders.branch} = ("
                + BRANCH_ID
                + ")",
                "DELETE FROM {branches} WHERE {branches.city} = {place}",
            ),
        ),
        (
            "The branch in {place} closes. Move its staff and its orders to the branch in {other}, then delete it.",
            "Close the branch in {place}: people and orders go to {other}, and its own row is deleted.",
            "Move all staff and orders of the {place} branch to the {other} branch and delete the {place} branch.",
        ),
        ("{other} takes over staff and orders of the branch in {place}, which is deleted. Do that.",),
        (
            "There is no branch in {place} any more; what was there, people and orders, is now in {other}. Do that.",
        ),
    ),
    SqlKind(
        "delete-customer",
        "state",
        pick("customer"),
        (
            (
                "DELETE FROM {items} WHERE {items.order} IN "
                "(SELECT {orders.id} FROM {orders} WHERE {orders.customer} = (" + CUSTOMER_ID + "))",
                "DELETE FROM {orders} WHERE {orders.customer} = (" + CUSTOMER_ID + ")",
                "DELETE FROM {customers} WHERE {customers.name} = {customer}",
            ),
        ),
        (
            "Delete the customer {customer} and all orders of this customer, with what is in them.",
            "Remove the customer {customer}, the orders of {customer} and their contents.",
            "The customer {customer} wants to be forgotten. Delete the customer, the orders and their contents.",
        ),
        ("Take the customer {customer} out of the database, with all orders and what they hold.",),
        ("There should be no trace left of the customer {customer}, of orders or of their contents.",),
    ),
)
