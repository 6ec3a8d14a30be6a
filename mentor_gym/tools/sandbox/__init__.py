"""Modules of the standard library that Monty lacks, in Monty's own subset of Python.

They are not imported: `mentor_gym.tools.monty_library` gives their texts to the interpreter when a program imports
them. A module may use built-in functions, modules that Monty has, and its own names; no classes may be derived.
"""
