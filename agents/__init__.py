"""Policies that write turns, learners that train them, and evaluation; only what needs torch imports it."""
