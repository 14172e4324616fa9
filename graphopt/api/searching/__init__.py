"""Budgets in, best model out: many compiles, judged and compared, and one of them picked."""

from graphopt.api.searching.run import Found, search

__all__ = ["Found", "search"]
