"""Decides what a recipe leaves open."""

from graphopt.planner.placement import FLOAT, PLACEMENTS, Decision, choose_placement

__all__ = ["FLOAT", "PLACEMENTS", "Decision", "choose_placement"]
