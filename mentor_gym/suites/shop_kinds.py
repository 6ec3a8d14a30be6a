"""The kinds of tasks of the `shop` suite: their values, solutions in SQL and wordings.

SQL names tables and columns as `mentor_gym.suites.shop_data.COLUMNS` does; a company's style says what they are
called. `KINDS` are trained; `OOD_KINDS` ask for what no trained kind asks for: what is missing, what is second, two
conditions on the same row, averages of sums, moving and deleting by a condition elsewhere.
"""

from __future__ import annotations

from mentor_gym.suites.shop_change_kinds import CHANGES
from mentor_gym.suites.shop_draws import (
    BRANCH_ID,
    CUSTOMER_ID,
    IP,
    IPO,
    IPOC,
    OB,
    OC,
    OTHER_ID,
    PRODUCT_ID,
    SB,
    WORTH,
    draw_transfer,
    draw_two_places,
    draw_two_products,
    pick,
)
from mentor_gym.suites.sql_plans import SqlKind

READS = (
    # One table
    SqlKind(
        "customer-city",
        "text",
        pick("customer"),
        (("SELECT {customers.city} FROM {customers} WHERE {customers.name} = {customer}",),),
        (
            "[In which city|Where] does the customer {customer} live?",
            "[Find|Look up] the city of the customer {customer}.",
            "Which city [is in our records|do we have] for the customer {customer}?",
        ),
        ("The customer {customer}: [what|which] city?",),
        ("From [what|which] city does the customer {customer} [come|order]?",),
    ),
    SqlKind(
        "product-price",
        "number",
        pick("product"),
        (("SELECT {products.price} FROM {products} WHERE {products.name} = {product}",),),
        (
            "What does the {product} cost?",
            "[Find|Look up] the price of the {product}.",
            "What is the price of [the|one] {product}?",
        ),
        ("How much [is|do we ask for] the {product}?",),
        ("At [what|which] price do we [sell|offer] the {product}?",),
    ),
    SqlKind(
        "product-stock",
        "number",
        pick("product"),
        (("SELECT {products.stock} FROM {products} WHERE {products.name} = {product}",),),
        (
            "How many pieces of the {product} are in stock?",
            "[Find|Look up] the stock of the {product}.",
            "What is our stock of the {product}, in pieces?",
        ),
        ("Of the {product}, how many [do we have|are there] in stock?",),
        ("How many pieces of the {product} [are left|can we still sell]?",),
    ),
    SqlKind(
        "salary",
        "number",
        pick("person"),
        (("SELECT {staff.salary} FROM {staff} WHERE {staff.name} = {person}",),),
        (
            "What is the salary of {person}, who works for us?",
            "How much does our employee {person} earn?",
            "[Find|Look up] the pay of the employee {person}.",
        ),
        ("{person} works here. For [what|which] salary?",),
        ("What do we pay {person} of our [staff|team]?",),
    ),
    SqlKind(
        "count-city",
        "number",
        pick("city"),
        (("SELECT COUNT(*) FROM {customers} WHERE {customers.city} = {city}",),),
        (
            "How many customers live in {city}?",
            "Count the customers [from|in] {city}.",
            "What is the number of customers [from|in] {city}?",
        ),
        ("How many of our customers are [at home in|from] {city}?",),
        ("{city}: how many customers do we have there?",),
    ),
    SqlKind(
        "count-month",
        "number",
        pick("month"),
        (
            ("SELECT COUNT(*) FROM {orders} WHERE substr({orders.day}, 1, 7) = {month}",),
            ("SELECT COUNT(*) FROM {orders} WHERE {orders.day} LIKE {month} || '%'",),
        ),
        (
            "How many orders [came in|were placed] in {month}?",
            "Count the orders of [the month |]{month}.",
            "What is the number of orders in {month}?",
        ),
        ("In {month}, how many orders did we [get|have]?",),
        ("How many times did somebody order in {month}?",),
    ),
    SqlKind(
        "count-status",
        "number",
        pick("status", "day"),
        (
            ("SELECT COUNT(*) FROM {orders} WHERE {orders.status} = {status} AND {orders.day} > {day}",),
            ("SELECT SUM({orders.status} = {status}) FROM {orders} WHERE {orders.day} > {day}",),
        ),
        (
            "How many orders placed after {day} have the status {status}?",
            "Count the {status} orders placed after {day}.",
            "After {day}, how many orders are {status}?",
        ),
        ("Of the orders placed after {day}, how many are {status}?",),
        ("How many orders that came later than {day} stand at {status}?",),
    ),
    SqlKind(
        "count-dearer",
        "number",
        pick(n=(10, 90)),
        (("SELECT COUNT(*) FROM {products} WHERE {products.price} > {n}",),),
        (
            "How many products cost more than {n}?",
            "Count the products with a price [above|over] {n}.",
            "What is the number of products that cost more than {n}?",
        ),
        ("More than {n}: how many of our products cost that?",),
        ("For how many products do we ask more than {n}?",),
    ),
    SqlKind(
        "list-city",
        "set",
        pick("city"),
        (("SELECT {customers.name} FROM {customers} WHERE {customers.city} = {city}",),),
        (
            "Which customers live in {city}? List their names, with commas.",
            "List the names of the customers [from|in] {city}, with commas.",
            "Name all customers [from|in] {city}, with commas between them.",
        ),
        ("Who are our customers in {city}? Separate the names by commas.",),
        ("{city}: give the name of every customer there, separated by commas.",),
    ),
    SqlKind(
        "list-cheaper",
        "set",
        pick("category", n=(20, 80)),
        (
            (
                "SELECT {products.name} FROM {products} "
                "WHERE {products.category} = {category} AND {products.price} < {n}",
            ),
        ),
        (
            "Which {category} products cost less than {n}? List their names, with commas.",
            "List the {category} products with a price [below|under] {n}, with commas.",
            "Name all products of the category {category} that cost less than {n}, with commas between them.",
        ),
        ("Less than {n}: which {category} products cost that? Separate the names by commas.",),
        ("Which of our {category} products can be had for less than {n}? Separate them by commas.",),
    ),
    SqlKind(
        "dearest",
        "text",
        pick("category"),
        (
            (
                "SELECT {products.name} FROM {products} WHERE {products.category} = {category} "
                "ORDER BY {products.price} DESC LIMIT 1",
            ),
            (
                "SELECT {products.name} FROM {products} WHERE {products.category} = {category} AND "
                "{products.price} = (SELECT MAX({products.price}) FROM {products} "
                "WHERE {products.category} = {category})",
            ),
            (
                "SELECT MAX({products.price}) FROM {products} WHERE {products.category} = {category}",
                "SELECT {products.name} FROM {products} "
                "WHERE {products.category} = {category} AND {products.price} = {result}",
            ),
        ),
        (
            "Which {category} product [costs the most|has the highest price]?",
            "Name the [most expensive|dearest] product of the category {category}.",
            "What is the [most expensive|dearest] of our {category} products?",
        ),
        ("In the category {category}, which product has the highest price?",),
        ("Of all {category} products, for which one do we ask the most?",),
        ranked=(
            "SELECT {products.price} FROM {products} WHERE {products.category} = {category} ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "lowest-stock",
        "text",
        pick("category"),
        (
            (
                "SELECT {products.name} FROM {products} WHERE {products.category} = {category} "
                "ORDER BY {products.stock} LIMIT 1",
            ),
            (
                "SELECT {products.name} FROM {products} WHERE {products.category} = {category} AND "
                "{products.stock} = (SELECT MIN({products.stock}) FROM {products} "
                "WHERE {products.category} = {category})",
            ),
        ),
        (
            "Of which {category} product is the least in stock?",
            "Name the {category} product with the [lowest|smallest] stock.",
            "Which product of the category {category} has the [lowest|smallest] stock?",
        ),
        ("In the category {category}, which product has the fewest pieces in stock?",),
        ("Which of our {category} products will run out first, by its stock?",),
        ranked=(
            "SELECT {products.stock} FROM {products} WHERE {products.category} = {category} ORDER BY 1 LIMIT 2"
        ),
    ),
    SqlKind(
        "mean-price",
        "number",
        pick("category"),
        (
            ("SELECT ROUND(AVG({products.price}), 2) FROM {products} WHERE {products.category} = {category}",),
            (
                "SELECT ROUND(SUM({products.price}) / COUNT(*), 2) FROM {products} "
                "WHERE {products.category} = {category}",
            ),
        ),
        (
            "What is the average price of the {category} products? Round to 2 decimals.",
            "Find the mean price of the category {category}, rounded to 2 decimals.",
            "What does a {category} product cost on average? Round to 2 decimals.",
        ),
        ("The average price in the category {category}, please, with 2 decimals.",),
        ("Averaged over the category {category}, what is the price? Give 2 decimals.",),
    ),
    SqlKind(
        "stock-total",
        "number",
        pick("category"),
        (("SELECT SUM({products.stock}) FROM {products} WHERE {products.category} = {category}",),),
        (
            "How many pieces are in stock of all {category} products together?",
            "What is the total stock of the category {category}?",
            "Add up the stock of all {category} products.",
        ),
        ("The category {category}: how many pieces are in stock in all?",),
        ("If we sold every {category} product in stock, how many pieces would that be?",),
    ),
    # Two tables
    SqlKind(
        "orders-of",
        "number",
        pick("customer"),
        (
            ("SELECT COUNT(*) FROM " + OC + " WHERE c.{customers.name} = {customer}",),
            ("SELECT COUNT(*) FROM {orders} WHERE {orders.customer} = (" + CUSTOMER_ID + ")",),
            (CUSTOMER_ID, "SELECT COUNT(*) FROM {orders} WHERE {orders.customer} = {result}"),
        ),
        (
            "How many orders has {customer} placed?",
            "Count the orders of the customer {customer}.",
            "What is the number of orders [by|of] {customer}?",
        ),
        ("How often did {customer} order?",),
        ("{customer}: how many orders do we have from this customer?",),
    ),
    SqlKind(
        "last-order",
        "text",
        pick("customer"),
        (
            (CUSTOMER_ID, "SELECT MAX({orders.day}) FROM {orders} WHERE {orders.customer} = {result}"),
            ("SELECT MAX(o.{orders.day}) FROM " + OC + " WHERE c.{customers.name} = {customer}",),
            ("SELECT MAX({orders.day}) FROM {orders} WHERE {orders.customer} = (" + CUSTOMER_ID + ")",),
        ),
        (
            "On which day was the last order of {customer} placed? Write it as it stands in the database.",
            "When did {customer} order last? Give the date as in the database.",
            "[Find|Look up] the date of the latest order by {customer}, as it is stored.",
        ),
        ("The most recent order of {customer}: which date, as the database has it?",),
        ("Since which date, as stored, have we had no new order from {customer}?",),
    ),
    SqlKind(
        "staff-of",
        "set",
        pick("place"),
        (
            ("SELECT s.{staff.name} FROM " + SB + " WHERE b.{branches.city} = {place}",),
            ("SELECT {staff.name} FROM {staff} WHERE {staff.branch} = (" + BRANCH_ID + ")",),
            (BRANCH_ID, "SELECT {staff.name} FROM {staff} WHERE {staff.branch} = {result}"),
        ),
        (
            "Who works at the branch in {place}? List the names, with commas.",
            "List the staff of the {place} branch, with commas.",
            "Name everybody who works at the branch in {place}, with commas between them.",
        ),
        ("The branch in {place}: who works there? Separate the names by commas.",),
        ("Give the names of the people employed in {place}, separated by commas.",),
    ),
    SqlKind(
        "payroll",
        "number",
        pick("place"),
        (
            (BRANCH_ID, "SELECT SUM({staff.salary}) FROM {staff} WHERE {staff.branch} = {result}"),
            ("SELECT SUM(s.{staff.salary}) FROM " + SB + " WHERE b.{branches.city} = {place}",),
            ("SELECT SUM({staff.salary}) FROM {staff} WHERE {staff.branch} = (" + BRANCH_ID + ")",),
        ),
        (
            "What do all salaries at the branch in {place} add up to?",
            "Add up the salaries of the {place} branch.",
            "How much do we pay the staff of the branch in {place} [in all|together]?",
        ),
        ("The branch in {place}: what is the sum of its salaries?",),
        ("What does the team in {place} earn, all in all?",),
    ),
    SqlKind(
        "best-paid",
        "text",
        pick("place"),
        (
            (
                BRANCH_ID,
                "SELECT {staff.name} FROM {staff} WHERE {staff.branch} = {result} "
                "ORDER BY {staff.salary} DESC LIMIT 1",
            ),
            (
                "SELECT s.{staff.name} FROM " + SB + " WHERE b.{branches.city} = {place} "
                "ORDER BY s.{staff.salary} DESC LIMIT 1",
            ),
        ),
        (
            "Who earns the most at the branch in {place}?",
            "Name the person with the highest salary at the {place} branch.",
            "Who has the highest salary of all who work at the branch in {place}?",
        ),
        ("The branch in {place}: who has the highest salary there?",),
        ("Who is paid best of the team in {place}?",),
        ranked=(
            "SELECT s.{staff.salary} FROM " + SB + " WHERE b.{branches.city} = {place} ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "city-status",
        "number",
        pick("city", "status"),
        (
            (
                "SELECT COUNT(*) FROM "
                + OC
                + " WHERE c.{customers.city} = {city} AND o.{orders.status} = {status}",
            ),
            (
                "SELECT COUNT(*) FROM {orders} WHERE {orders.status} = {status} AND {orders.customer} IN "
                "(SELECT {customers.id} FROM {customers} WHERE {customers.city} = {city})",
            ),
            (
                "SELECT {customers.id} FROM {customers} WHERE {customers.city} = {city}",
                "SELECT COUNT(*) FROM {orders} WHERE {orders.status} = {status} AND {orders.customer} IN ({result})",
            ),
        ),
        (
            "How many orders by customers from {city} are {status}?",
            "Count the {status} orders of customers who live in {city}.",
            "What is the number of orders with the status {status} by customers from {city}?",
        ),
        ("Customers from {city}: how many of their orders are {status}?",),
        ("How many orders stand at {status} that people from {city} placed?",),
    ),
    SqlKind(
        "branch-since",
        "number",
        pick("place", "month"),
        (
            (
                BRANCH_ID,
                "SELECT COUNT(*) FROM {orders} "
                "WHERE {orders.branch} = {result} AND substr({orders.day}, 1, 7) >= {month}",
            ),
            (
                "SELECT COUNT(*) FROM "
                + OB
                + " WHERE b.{branches.city} = {place} AND substr(o.{orders.day}, 1, 7) >= {month}",
            ),
        ),
        (
            "How many orders [came in|were placed] at the branch in {place} in {month} or later?",
            "Count the orders of the {place} branch since {month} (that month included).",
            "In {month} or later, how many orders had the branch in {place}?",
        ),
        ("The branch in {place}: how many orders from {month} on?",),
        ("How many times was something ordered in {place} in {month} or after it?",),
    ),
    SqlKind(
        "sold-units",
        "number",
        pick("product"),
        (
            ("SELECT SUM(i.{items.quantity}) FROM " + IP + " WHERE p.{products.name} = {product}",),
            ("SELECT SUM({items.quantity}) FROM {items} WHERE {items.product} = (" + PRODUCT_ID + ")",),
            (PRODUCT_ID, "SELECT SUM({items.quantity}) FROM {items} WHERE {items.product} = {result}"),
        ),
        (
            "How many pieces of the {product} were ordered [in all|in total]?",
            "Add up the pieces of the {product} over all orders.",
            "Over all orders, how many pieces of the {product} are there?",
        ),
        ("The {product}: how many pieces have been ordered?",),
        ("All orders together ask for how many pieces of the {product}?",),
    ),
    SqlKind(
        "order-total",
        "number",
        pick("order"),
        (
            ("SELECT ROUND(SUM(" + WORTH + "), 2) FROM " + IP + " WHERE i.{items.order} = {order}",),
            ("SELECT SUM(" + WORTH + ") FROM " + IP + " WHERE i.{items.order} = {order}",),
        ),
        (
            "What is order {order} worth, at today's prices?",
            "How much does order {order} come to, with the prices of the products?",
            "Add up order {order}: pieces times price.",
        ),
        ("Order {order}: what does it cost in all, at the prices of the products?",),
        ("What would we charge today for everything in order {order}?",),
    ),
    # Three tables and more
    SqlKind(
        "bought-products",
        "set",
        pick("customer"),
        (
            ("SELECT DISTINCT p.{products.name} FROM " + IPOC + " WHERE c.{customers.name} = {customer}",),
            (
                "SELECT {products.name} FROM {products} WHERE {products.id} IN (SELECT i.{items.product} FROM "
                "{items} i JOIN {orders} o ON o.{orders.id} = i.{items.order} "
                "WHERE o.{orders.customer} = (" + CUSTOMER_ID + "))",
            ),
            (
                CUSTOMER_ID,
                "SELECT DISTINCT p.{products.name} FROM " + IPO + " WHERE o.{orders.customer} = {result}",
            ),
        ),
        (
            "Which different products has {customer} ordered? List their names, with commas.",
            "List the products that {customer} has ordered, each once, with commas.",
            "Name every product in the orders of {customer}, each once, with commas between them.",
        ),
        ("{customer} has ordered which products? Name each once, separated by commas.",),
        ("What has {customer} asked for so far? Give each product once, separated by commas.",),
    ),
    SqlKind(
        "buyers",
        "set",
        pick("product", "month"),
        (
            (
                "SELECT DISTINCT c.{customers.name} FROM " + IPOC + " WHERE p.{products.name} = {product} "
                "AND substr(o.{orders.day}, 1, 7) >= {month}",
            ),
            (
                PRODUCT_ID,
                "SELECT DISTINCT c.{customers.name} FROM {items} i "
                "JOIN {orders} o ON o.{orders.id} = i.{items.order} "
                "JOIN {customers} c ON c.{customers.id} = o.{orders.customer} "
                "WHERE i.{items.product} = {result} AND substr(o.{orders.day}, 1, 7) >= {month}",
            ),
        ),
        (
            "Which customers ordered the {product} in {month} or later? List the names, each once, with commas.",
            "List the customers who have ordered the {product} since {month} (that month included), each once, with commas.",
            "Name every customer who ordered the {product} in {month} or after it, each once, with commas between them.",
        ),
        ("Who has ordered the {product}, counting from {month} on? Name each once, separated by commas.",),
        ("The {product} from {month} onwards: which customers asked for it? Each once, separated by commas.",),
    ),
    SqlKind(
        "bought-units",
        "number",
        pick("city", "category"),
        (
            (
                "SELECT SUM(i.{items.quantity}) FROM " + IPOC + " WHERE c.{customers.city} = {city} "
                "AND p.{products.category} = {category}",
            ),
            (
                "SELECT SUM({items.quantity}) FROM {items} WHERE {items.product} IN "
                "(SELECT {products.id} FROM {products} WHERE {products.category} = {category}) AND {items.order} IN "
                "(SELECT o.{orders.id} FROM " + OC + " WHERE c.{customers.city} = {city})",
            ),
        ),
        (
            "How many pieces of {category} products did customers from {city} order?",
            "Count the pieces of the category {category} in the orders of customers from {city}.",
            "Customers who live in {city} ordered how many pieces of the category {category}?",
        ),
        ("From {city}, how many pieces of {category} products were ordered?",),
        ("How many {category} pieces do the orders of people in {city} hold?",),
    ),
    SqlKind(
        "revenue",
        "number",
        pick("category", "status"),
        (
            (
                "SELECT ROUND(SUM(" + WORTH + "), 2) FROM " + IPO + " WHERE p.{products.category} = {category} "
                "AND o.{orders.status} = {status}",
            ),
            (
                "SELECT ROUND(SUM(" + WORTH + "), 2) FROM " + IP + " WHERE p.{products.category} = {category} AND "
                "i.{items.order} IN (SELECT {orders.id} FROM {orders} WHERE {orders.status} = {status})",
            ),
        ),
        (
            "What are the {category} products in {status} orders worth (pieces times price)?",
            "Add up pieces times price of the category {category} over all {status} orders.",
            "How much do the {status} orders come to, counting {category} products only (pieces times price)?",
        ),
        ("Orders that are {status}: what is the worth (pieces times price) of the {category} products in them?",),
        ("Pieces times price, for the category {category} in orders that stand at {status}: how much in all?",),
    ),
    # Groups
    SqlKind(
        "frequent",
        "set",
        pick(n=(4, 6)),
        (
            ("SELECT c.{customers.name} FROM " + OC + " GROUP BY c.{customers.id} HAVING COUNT(*) >= {n}",),
            (
                "SELECT {customers.name} FROM {customers} WHERE "
                "(SELECT COUNT(*) FROM {orders} WHERE {orders.customer} = {customers}.{customers.id}) >= {n}",
            ),
            (
                "SELECT {orders.customer} FROM {orders} GROUP BY {orders.customer} HAVING COUNT(*) >= {n}",
                "SELECT {customers.name} FROM {customers} WHERE {customers.id} IN ({result})",
            ),
        ),
        (
            "Which customers have placed {n} orders or more? List the names, with commas.",
            "List the customers with at least {n} orders, with commas.",
            "Name every customer who has ordered {n} times or more, with commas between them.",
        ),
        ("At least {n} orders: which customers have that? Separate the names by commas.",),
        ("Who has come back so often that we have {n} or more of their orders? Separate the names by commas.",),
    ),
    SqlKind(
        "full-category",
        "text",
        pick(n=(5, 40)),
        (
            (
                "SELECT {products.category} FROM {products} WHERE {products.stock} >= {n} "
                "GROUP BY {products.category} ORDER BY COUNT(*) DESC LIMIT 1",
            ),
        ),
        (
            "Which category has the most products with a stock of {n} or more?",
            "Name the category with the most products of which at least {n} are in stock.",
            "In which category are there the most products with {n} pieces or more in stock?",
        ),
        ("Products with a stock of at least {n}: which category has the most of them?",),
        ("Where, of all categories, do most products still have {n} pieces or more?",),
        ranked=(
            "SELECT COUNT(*) FROM {products} WHERE {products.stock} >= {n} "
            "GROUP BY {products.category} ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "busiest-branch",
        "text",
        pick("status"),
        (
            (
                "SELECT b.{branches.city} FROM " + OB + " WHERE o.{orders.status} = {status} "
                "GROUP BY b.{branches.id} ORDER BY COUNT(*) DESC LIMIT 1",
            ),
            (
                "SELECT {orders.branch} FROM {orders} WHERE {orders.status} = {status} "
                "GROUP BY {orders.branch} ORDER BY COUNT(*) DESC LIMIT 1",
                "SELECT {branches.city} FROM {branches} WHERE {branches.id} = {result}",
            ),
        ),
        (
            "Which branch has the most {status} orders? Name its city.",
            "Name the city of the branch with the most orders that are {status}.",
            "In which city is the branch with the [highest|largest] number of {status} orders?",
        ),
        ("Orders that are {status}: the branch of which city has the most?",),
        ("The branch of which city leads in orders that stand at {status}?",),
        ranked=(
            "SELECT COUNT(*) FROM {orders} WHERE {orders.status} = {status} "
            "GROUP BY {orders.branch} ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "best-seller",
        "text",
        pick("month"),
        (
            (
                "SELECT p.{products.name} FROM " + IPO + " WHERE substr(o.{orders.day}, 1, 7) = {month} "
                "GROUP BY p.{products.id} ORDER BY SUM(i.{items.quantity}) DESC LIMIT 1",
            ),
        ),
        (
            "Of which product were the most pieces ordered in {month}?",
            "Name the product with the most pieces in the orders of {month}.",
            "In {month}, which product was ordered most, by pieces?",
        ),
        ("The orders of {month}: which product has the most pieces in them?",),
        ("Counting pieces, what was our best seller in {month}?",),
        ranked=(
            "SELECT SUM(i.{items.quantity}) FROM " + IPO + " WHERE substr(o.{orders.day}, 1, 7) = {month} "
            "GROUP BY p.{products.id} ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "big-spender",
        "text",
        pick("category"),
        (
            (
                "SELECT c.{customers.name} FROM " + IPOC + " WHERE p.{products.category} = {category} "
                "GROUP BY c.{customers.id} ORDER BY SUM(" + WORTH + ") DESC LIMIT 1",
            ),
            (
                "SELECT o.{orders.customer} FROM " + IPO + " WHERE p.{products.category} = {category} "
                "GROUP BY o.{orders.customer} ORDER BY SUM(" + WORTH + ") DESC LIMIT 1",
                "SELECT {customers.name} FROM {customers} WHERE {customers.id} = {result}",
            ),
        ),
        (
            "Which customer has ordered {category} products for the most money (pieces times price)?",
            "Name the customer whose orders of {category} products are worth the most (pieces times price).",
            "Who has the highest sum of pieces times price in the category {category}?",
        ),
        ("The category {category}: whose orders come to the most, pieces times price?",),
        ("Who spends the most on {category} products, by pieces times price over all orders?",),
        ranked=(
            "SELECT SUM(" + WORTH + ") FROM " + IPOC + " WHERE p.{products.category} = {category} "
            "GROUP BY c.{customers.id} ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "count-groups",
        "number",
        pick("month", n=(2, 4)),
        (
            (
                "SELECT COUNT(*) FROM (SELECT {orders.customer} FROM {orders} "
                "WHERE substr({orders.day}, 1, 7) >= {month} GROUP BY {orders.customer} HAVING COUNT(*) >= {n})",
            ),
        ),
        (
            "How many customers have placed at least {n} orders since {month} (that month included)?",
            "Count the customers with {n} orders or more in {month} and later.",
            "In {month} or later, how many customers ordered {n} times or more?",
        ),
        ("Counting from {month} on, how many customers have {n} orders or more?",),
        ("How many people came back to us {n} times or more from {month} onwards?",),
    ),
)
KINDS = (*READS, *CHANGES)

OOD_KINDS = (
    SqlKind(
        "no-orders",
        "number",
        pick("city"),
        (
            (
                "SELECT COUNT(*) FROM {customers} WHERE {customers.city} = {city} "
                "AND {customers.id} NOT IN (SELECT {orders.customer} FROM {orders})",
            ),
            (
                "SELECT COUNT(*) FROM {customers} c LEFT JOIN {orders} o "
                "ON o.{orders.customer} = c.{customers.id} "
                "WHERE c.{customers.city} = {city} AND o.{orders.id} IS NULL",
            ),
        ),
        (
            "How many customers from {city} have never ordered anything?",
            "Count the customers in {city} without any order.",
        ),
        (),
        (),
    ),
    SqlKind(
        "unsold",
        "number",
        pick(n=(10, 80)),
        (
            (
                "SELECT COUNT(*) FROM {products} WHERE {products.price} > {n} "
                "AND {products.id} NOT IN (SELECT {items.product} FROM {items})",
            ),
            (
                "SELECT COUNT(*) FROM {products} p LEFT JOIN {items} i ON i.{items.product} = p.{products.id} "
                "WHERE p.{products.price} > {n} AND i.{items.order} IS NULL",
            ),
        ),
        (
            "How many products that cost more than {n} are in no order?",
            "Count the products with a price above {n} that nobody has ordered.",
        ),
        (),
        (),
    ),
    SqlKind(
        "second-dearest",
        "text",
        pick("category"),
        (
            (
                "SELECT {products.name} FROM {products} WHERE {products.category} = {category} "
                "ORDER BY {products.price} DESC LIMIT 1 OFFSET 1",
            ),
            (
                "SELECT {products.name} FROM {products} WHERE {products.category} = {category} "
                "AND {products.price} < (SELECT MAX({products.price}) FROM {products} "
                "WHERE {products.category} = {category}) ORDER BY {products.price} DESC LIMIT 1",
            ),
        ),
        (
            "Which {category} product is the second most expensive?",
            "Name the product of the category {category} with the second highest price.",
        ),
        (),
        (),
        ranked=(
            "SELECT {products.price} FROM {products} WHERE {products.category} = {category} "
            "ORDER BY 1 DESC LIMIT 2 OFFSET 1"
        ),
    ),
    SqlKind(
        "branch-gap",
        "number",
        draw_two_places,
        (
            ("SELECT SUM(b.{branches.city} = {place}) - SUM(b.{branches.city} = {other}) FROM " + OB,),
            (
                "SELECT (SELECT COUNT(*) FROM {orders} WHERE {orders.branch} = (" + BRANCH_ID + ")) - "
                "(SELECT COUNT(*) FROM {orders} WHERE {orders.branch} = (" + OTHER_ID + "))",
            ),
        ),
        (
            "How many orders more than the branch in {other} has the branch in {place}? Fewer is a negative number.",
            "Take the number of orders at the {place} branch minus that at the {other} branch. What is it?",
        ),
        (),
        (),
    ),
    SqlKind(
        "mean-order",
        "number",
        pick("status"),
        (
            (
                "SELECT ROUND(AVG(worth), 2) FROM (SELECT SUM(" + WORTH + ") AS worth FROM " + IPO + " "
                "WHERE o.{orders.status} = {status} GROUP BY o.{orders.id})",
            ),
            (
                "SELECT ROUND(SUM(" + WORTH + ") / COUNT(DISTINCT o.{orders.id}), 2) FROM " + IPO + " "
                "WHERE o.{orders.status} = {status}",
            ),
        ),
        (
            "What is the average worth (pieces times price) of an order that is {status}? Round to 2 decimals.",
            "Find the mean worth of the {status} orders, pieces times price, rounded to 2 decimals.",
        ),
        (),
        (),
    ),
    SqlKind(
        "both",
        "set",
        draw_two_products,
        (
            (
                "SELECT c.{customers.name} FROM " + IPOC + " WHERE p.{products.name} = {product} "
                "INTERSECT SELECT c.{customers.name} FROM " + IPOC + " WHERE p.{products.name} = {other}",
            ),
            (
                "SELECT c.{customers.name} FROM "
                + IPOC
                + " WHERE p.{products.name} IN ({product}, {other}) GROUP BY c.{customers.id} "
                "HAVING COUNT(DISTINCT p.{products.id}) = 2",
            ),
        ),
        (
            "Which customers have ordered both the {product} and the {other}? List the names, with commas.",
            "List the customers with the {product} and the {other} in their orders, with commas.",
        ),
        (),
        (),
    ),
    SqlKind(
        "above-average",
        "number",
        pick("category"),
        (
            (
                "SELECT COUNT(*) FROM {products} WHERE {products.price} > "
                "(SELECT AVG({products.price}) FROM {products} WHERE {products.category} = {category})",
            ),
            (
                "SELECT AVG({products.price}) FROM {products} WHERE {products.category} = {category}",
                "SELECT COUNT(*) FROM {products} WHERE {products.price} > {result}",
            ),
        ),
        (
            "How many products, of all categories, cost more than the average product of the category {category}?",
            "Count all products whose price is above the mean price of the category {category}.",
        ),
        (),
        (),
    ),
    SqlKind(
        "best-month",
        "text",
        pick("status"),
        (
            (
                "SELECT substr({orders.day}, 1, 7) FROM {orders} WHERE {orders.status} = {status} "
                "GROUP BY 1 ORDER BY COUNT(*) DESC LIMIT 1",
            ),
        ),
        (
            "In which month were the most of the {status} orders placed? Write it like 2024-07.",
            "Name the month, written like 2024-07, with the most orders that are {status}.",
        ),
        (),
        (),
        ranked=(
            "SELECT COUNT(*) FROM {orders} WHERE {orders.status} = {status} "
            "GROUP BY substr({orders.day}, 1, 7) ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "transfer",
        "state",
        draw_transfer,
        (
            (
                "UPDATE {staff} SET {staff.branch} = (" + OTHER_ID + ") "
                "WHERE {staff.role} = {role} AND {staff.branch} = (" + BRANCH_ID + ")",
            ),
        ),
        (
            "Every {role} of the branch in {place} now works at the branch in {other}. Move them.",
            "Move all staff with the role {role} from the {place} branch to the {other} branch.",
        ),
        (),
        (),
    ),
    SqlKind(
        "delete-unsold",
        "state",
        pick("category"),
        (
            (
                "DELETE FROM {products} WHERE {products.category} = {category} "
                "AND {products.id} NOT IN (SELECT {items.product} FROM {items})",
            ),
            (
                "SELECT p.{products.id} FROM {products} p LEFT JOIN {items} i ON i.{items.product} = p.{products.id} "
                "WHERE p.{products.category} = {category} AND i.{items.order} IS NULL",
                "DELETE FROM {products} WHERE {products.id} IN ({result})",
            ),
        ),
        (
            "Delete all {category} products that are in no order.",
            "Nobody has ordered some of the {category} products. Remove those from the database.",
        ),
        (),
        (),
    ),
)
